package lab

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
)

// Command runs a command of keyhook in the directory of the configuration, and
// returns what it prints and its exit code.
func (k *Keyhook) Command(ctx context.Context, args ...string) (out string, code int) {
	k.t.Helper()
	cmd := exec.CommandContext(ctx, k.path, args...)
	cmd.Dir = k.Dir
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		k.t.Fatal(err)
	}
	return printed.String(), cmd.ProcessState.ExitCode()
}
