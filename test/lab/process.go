package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a running program.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once exited
}

// start runs a program, which appends what it says to the file at log, until it
// ends or the test does.
func start(t testing.TB, name, log, path string, args ...string) *process {
	t.Helper()
	out, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// Not bound to a context: a test decides how its processes end.
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = filepath.Dir(log)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{name: name, cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() { _ = p.kill() })
	return p
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return nil
}

func (p *process) signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// suspend stops the process where it is, until resume.
func (p *process) suspend() error { return p.signal(syscall.SIGSTOP) }

func (p *process) resume() error { return p.signal(syscall.SIGCONT) }

// wait returns the exit code, -1 if a signal ended the process.
func (p *process) wait(ctx context.Context) (int, error) {
	select {
	case <-p.exited:
	case <-ctx.Done():
		return 0, fmt.Errorf("%s still runs: %w", p.name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return 0, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// stop asks the process to end and returns its exit code.
func (p *process) stop(ctx context.Context) (int, error) {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("stop %s: %w", p.name, err)
	}
	return p.wait(ctx)
}

// memory returns the resident memory of the process, now and at its highest, in
// bytes.
func (p *process) memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	read := func(field string) (int64, error) {
		_, rest, ok := bytes.Cut(status, []byte("\n"+field+":"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(line)), " kB"), 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("no %s in %q", field, status)
		}
		return kib << 10, nil
	}
	if now, err = read("VmRSS"); err != nil {
		return 0, 0, err
	}
	peak, err = read("VmHWM")
	return now, peak, err
}

// cost returns how much processor time a process took that has ended, and how
// many bytes it wrote to files: the kernel counts blocks of 512.
func (p *process) cost() (cpu time.Duration, written int64) {
	state := p.cmd.ProcessState
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		written = usage.Oublock * 512
	}
	return state.UserTime() + state.SystemTime(), written
}

// showWhenFailed adds the end of a log to the output of a failed test.
func showWhenFailed(t testing.TB, name, path string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		log, err := os.ReadFile(path)
		if err != nil {
			t.Logf("the log of %s: %v", name, err)
			return
		}
		const shown = 8 << 10
		if len(log) > shown {
			log = log[len(log)-shown:]
		}
		t.Logf("the end of the log of %s:\n%s", name, log)
	})
}

// Poll calls done until it says that there is nothing to wait for any more, and
// returns its error; or until ctx ends, and returns what was last in the way.
func Poll(ctx context.Context, done func() (ok bool, why error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, why := done()
		if ok {
			return why
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), why)
		}
	}
}
