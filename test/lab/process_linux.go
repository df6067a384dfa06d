package lab

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end cmd if the test is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
