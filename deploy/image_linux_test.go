package deploy_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
)

// exec returns a command that runs in the container: with its root and its user,
// and nothing of the environment. Without root it does so in a user namespace,
// in which the container's user is the one who runs the test.
func (c *container) exec(ctx context.Context, words ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = c.final.Workdir
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} // Docker's
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.gid)}
		return cmd
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: c.uid, HostID: os.Geteuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: c.gid, HostID: os.Getegid(), Size: 1}}
	return cmd
}

// own gives path to the container's user.
func (c *container) own(path string) error {
	if os.Geteuid() != 0 {
		return nil // it does belong to who stands for that user
	}
	return os.Chown(path, c.uid, c.gid)
}

// The binary alone, with CA certificates and a configuration, does what it is
// for: it watches an etcd over TLS, trusts a receiver whose authority the image
// knows, answers its own health check, and stops cleanly.
func TestTheImageRuns(t *testing.T) {
	etcd := etcdtest.Start(t, etcdtest.WithTLS())
	box := inbox.New(inbox.Config{})
	receiver := httptest.NewTLSServer(box)
	defer receiver.Close()

	c := newImage(t).container(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw})))
	c.mount("/etc/keyhook/keyhook.yaml", fmt.Sprintf(
		"etcd: {endpoints: [%q], tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}\n"+
			"checkpoint: {disk: {dir: %s}}\nadmin: {listen: '127.0.0.1:0'}\n", etcd.Endpoints()[0], c.final.Volumes[0]))
	c.mount("/etc/keyhook/rules/a.yaml", fmt.Sprintf(
		"sinks: [{name: box, webhook: {url: %q}}]\nrules: [{name: a, keys: '/a/{x}', send: {sink: box}}]\n", receiver.URL))
	for name, path := range map[string]string{"ca.pem": etcd.TLS().CAFile, "cert.pem": etcd.TLS().CertFile, "key.pem": etcd.TLS().KeyFile} {
		c.mount("/etc/keyhook/"+name, read(t, path))
	}
	c.check("/etc/keyhook/keyhook.yaml")
	before := c.files()

	if said, err := c.health(); err == nil {
		t.Fatalf("the health check finds a process where there is none: %s", said)
	}
	var log strings.Builder
	run := c.command(t.Context(), c.final.Cmd...)
	run.Stderr = &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	stopped := false
	defer func() {
		if !stopped {
			_ = run.Process.Kill() // it may have ended
			t.Logf("%v\n%s", <-ended, log.String())
		}
	}()

	c.await(ended, "to be alive", func() error { _, err := c.health(); return err })
	c.await(ended, "to be ready", func() error { _, err := c.health("--ready"); return err })
	if _, err := etcd.Client().Put(t.Context(), "/a/x", "1"); err != nil {
		t.Fatal(err)
	}
	if err := box.Await(t.Context(), func(n inbox.Counts) bool { return n.Acknowledged == 1 }); err != nil {
		t.Fatal(err)
	}
	c.isNotRoot(run.Process.Pid)
	if after := c.files(); !slices.Equal(before, after) {
		t.Errorf("it wrote outside of its volume:\n%q, before\n%q", after, before)
	}

	if err := run.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stopped = true
	if err := <-ended; err != nil {
		t.Errorf("its end: %v\n%s", err, log.String())
	}
	if said, err := c.health(); err == nil {
		t.Errorf("after its end the health check says %s", said)
	}
	info, err := os.Stat(filepath.Join(c.root, c.final.Volumes[0]))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info.Mode(), err)
	}
}

// What is left out of the image says so.
func TestTheImageHoldsNoServers(t *testing.T) {
	c := newImage(t).container(t, "")
	version, err := c.command(t.Context(), "version").Output()
	if err != nil || !strings.HasPrefix(string(version), "keyhook v0.0.0-image\n") || !strings.Contains(string(version), "left out") {
		t.Errorf("keyhook version: %v\n%s", err, version)
	}
	if said, err := c.command(t.Context(), "dev", "--once").CombinedOutput(); err == nil || !strings.Contains(string(said), "nodev") {
		t.Errorf("keyhook dev: %v\n%s", err, said)
	}
}

// health runs the image's health check, with more arguments.
func (c *container) health(more ...string) (string, error) {
	c.t.Helper()
	said, err := c.exec(c.t.Context(), append(slices.Clone(c.final.Healthcheck.Test[1:]), more...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return string(said), err
}

// await asks until there is no error, or until the process or patience ends.
func (c *container) await(ended <-chan error, what string, ask func() error) {
	c.t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	over := time.After(time.Minute)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case end := <-ended:
			c.t.Fatalf("it ended instead %s: %v", what, end)
		case <-over:
			c.t.Fatalf("it takes too long %s: %v", what, err)
		}
	}
}

// isNotRoot checks who a process is, as the kernel sees it from here.
func (c *container) isNotRoot(pid int) {
	c.t.Helper()
	uid := c.uid
	if os.Geteuid() != 0 {
		uid = os.Geteuid()
	}
	status := read(c.t, fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range []string{
		fmt.Sprintf(`(?m)^Uid:(\s%d){4}$`, uid),
		`(?m)^CapEff:\s0{16}$`,
	} {
		if !regexp.MustCompile(line).MatchString(status) {
			c.t.Errorf("its status has no line %s:\n%s", line, status)
		}
	}
}
