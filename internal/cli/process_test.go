package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
)

// process is keyhook in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd

	mu      sync.Mutex
	lines   []string // of stderr
	changed chan struct{}
	read    chan struct{} // closed at the end of stderr
}

const patience = 30 * time.Second

// spawn runs keyhook with args.
func spawn(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{t: t, cmd: exec.CommandContext(ctx, exe, args...), changed: make(chan struct{}), read: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asKeyhook+"=1")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(stderr)
	t.Cleanup(func() {
		cancel() // kills it if it still runs
		<-p.read
		_ = p.cmd.Wait() // has been waited for already, or was killed
		if t.Failed() {
			t.Logf("stderr:\n%s", strings.Join(p.lines, "\n"))
		}
	})
	return p
}

func (p *process) follow(stderr io.Reader) {
	defer close(p.read)
	scanner := bufio.NewScanner(stderr)
	for scanner.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, scanner.Text())
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
}

// await waits for a line of stderr that contains text.
func (p *process) await(text string) {
	p.t.Helper()
	over := time.After(patience)
	for seen := 0; ; {
		p.mu.Lock()
		lines, changed := p.lines[seen:], p.changed
		seen = len(p.lines)
		p.mu.Unlock()
		for _, line := range lines {
			if strings.Contains(line, text) {
				return
			}
		}
		select {
		case <-changed:
		case <-over:
			p.t.Fatalf("it does not say %q", text)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.read: // stderr ends with the process
	case <-time.After(patience):
		p.t.Fatal("it does not end")
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// site writes a configuration for an etcd and an inbox of its own.
func site(t *testing.T) (string, *etcdtest.Server, *inbox.Server) {
	t.Helper()
	etcd := etcdtest.Start(t)
	box := inboxtest.Start(t, inbox.Config{})
	dir := write(t, map[string]string{
		"keyhook.yaml": fmt.Sprintf("etcd: {endpoints: [%q]}\nadmin: {listen: '127.0.0.1:0'}\n", etcd.Endpoints()[0]),
		"rules/a.yaml": fmt.Sprintf("sinks: [{name: box, webhook: {url: %q}}]\nrules: [{name: a, keys: '/a/{x}', send: {sink: box}}]\n", box.URL()),
	})
	return filepath.Join(dir, "keyhook.yaml"), etcd, box
}

func TestASignalEndsARunCleanly(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		config, etcd, box := site(t)
		p := spawn(t, "run", "-c", config)
		p.await("msg=\"ready")
		if _, err := etcd.Client().Put(t.Context(), "/a/x", "1"); err != nil {
			t.Fatal(err)
		}
		if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Acknowledged == 1 }); err != nil {
			t.Fatal(err)
		}
		p.signal(s)
		if code := p.exit(); code != 0 {
			t.Errorf("%s: exit code %d", s, code)
		}
		p.await("cause=\"stopped by a signal (" + s.String() + ")\"")
		p.await("msg=stopped")
	}
}

func TestASecondSignalEndsARunAtOnce(t *testing.T) {
	config, etcd, box := site(t)
	box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusOK, Delay: time.Hour} })
	p := spawn(t, "run", "-c", config)
	p.await("msg=\"ready")
	if _, err := etcd.Client().Put(t.Context(), "/a/x", "1"); err != nil {
		t.Fatal(err)
	}
	if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Open == 1 }); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGTERM)
	p.await("msg=\"stopping")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	p.await("keyhook: stopped at once by a second signal (terminated)")
}

func TestSIGHUPReloadsTheRules(t *testing.T) {
	config, _, _ := site(t)
	p := spawn(t, "run", "-c", config)
	p.await("msg=\"ready")
	p.signal(syscall.SIGHUP)
	p.await("msg=\"the rules were read again and are as they were\"")
	rules := filepath.Join(filepath.Dir(config), "rules", "a.yaml")
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rules, append(text, "# edited\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.await("msg=\"rules reloaded\"")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A receiver that answers more often than it is asked makes net/http talk to the
// standard logger: it must not show amid lines of JSON.
func TestWhatTheStandardLibraryLogsIsLoggedAsTheRest(t *testing.T) {
	config, etcd, _ := site(t)
	receiver, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- talkative(receiver) }()

	dir := filepath.Dir(config)
	for name, text := range map[string]string{
		"keyhook.yaml": fmt.Sprintf("etcd: {endpoints: [%q]}\nadmin: {listen: '127.0.0.1:0'}\nlog: {level: debug, format: json}\n", etcd.Endpoints()[0]),
		"rules/a.yaml": fmt.Sprintf("sinks: [{name: box, webhook: {url: 'http://%s/'}}]\nrules: [{name: a, keys: '/a/{x}', send: {sink: box}}]\n", receiver.Addr()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := spawn(t, "run", "-c", config)
	p.await(`"msg":"ready`)
	if _, err := etcd.Client().Put(t.Context(), "/a/x", "1"); err != nil {
		t.Fatal(err)
	}
	p.await("Unsolicited response")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range p.lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s is not JSON", line)
		}
	}
	if err := errors.Join(receiver.Close(), <-ended); err != nil {
		t.Error(err)
	}
}

// talkative answers the first request twice.
func talkative(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	_, err = io.Copy(io.Discard, req.Body)
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	if err == nil {
		// The other end closes what it did not ask for.
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhmm")
	}
	return errors.Join(err, conn.Close())
}

func TestARunWithoutEtcdStaysUp(t *testing.T) {
	open := strings.Replace(goodConfig, "127.0.0.1:0", "0.0.0.0:0", 1)
	dir := write(t, map[string]string{"keyhook.yaml": open, "rules/one.yaml": goodRules})
	p := spawn(t, "run", "-c", filepath.Join(dir, "keyhook.yaml"))
	p.await("etcd cannot be reached")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	warnings := 0
	for _, line := range p.lines {
		if strings.Contains(line, "token") {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d lines warn of the status page without a token", warnings)
	}
}

// A run that cannot begin says why, and what to do.
func TestARunThatCannotBegin(t *testing.T) {
	config, _, _ := site(t)
	first := spawn(t, "run", "-c", config)
	first.await("msg=\"ready")
	second := spawn(t, "run", "-c", config)
	if code := second.exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	second.await("in use by another process")
	second.await("    stop the other keyhook")
}
