package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/lab"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

// Whatever is wrong in the files is told at once, each with its place, and
// nothing is started.
func TestEveryMistakeInTheFilesIsTold(t *testing.T) {
	k := newKeyhook(t, lab.Settings{Etcd: "http://127.0.0.1:1", More: "  wacth: [/k/]", Rules: `
sinks:
  - name: hook
    webhook: {url: "http://127.0.0.1:1/", timeout: 15parsecs}
  - name: hook
    webhook: {url: "http://127.0.0.1:1/"}
rules:
  - name: typo
    keys: /k/{name}
    wehn: event.type == "PUT"
    send: {sink: hook}
  - name: nobody
    keys: /k/{name}
    send: {sink: pager}
  - name: pattern
    keys: /k/{name
    send: {sink: hook}
  - name: expression
    keys: /k/{name}
    when: event.vlaue == "x"
    send: {sink: hook}
  - name: capture
    keys: /k/{name}
    send:
      sink: hook
      body: |
        {"ok": event.key,
         "wrong": params.nmae}
  - name: typo
    keys: /k/{name}
    send: {sink: hook}
`})
	k.Start()
	if code := k.Wait(t.Context()); code != 2 {
		t.Errorf("exit code %d, not 2", code)
	}
	said := k.Log()
	for _, want := range []string{
		`keyhook\.yaml:3:3: .*wacth`,
		`rules\.yaml:4:52: .*15parsecs`,
		`rules\.yaml:5:11: .*hook`,
		`rules\.yaml:10:5: .*wehn`,
		`rules\.yaml:14:18: .*pager`,
		`rules\.yaml:16:14: `,
		`rules\.yaml:20:17: .*vlaue`,
		`rules\.yaml:28:26: .*nmae`,
		`rules\.yaml:29:11: .*typo`,
	} {
		if !regexp.MustCompile(`(?m)^\S*` + want).MatchString(said) {
			t.Errorf("nothing like %s is told", want)
		}
	}
	if _, err := os.Stat(filepath.Join(k.Dir, "data")); !os.IsNotExist(err) {
		t.Errorf("the data directory was touched: %v", err)
	}
	if t.Failed() {
		t.Logf("told was\n%s", said)
	}
}

func TestNoConfiguration(t *testing.T) {
	k := newKeyhook(t, lab.Settings{Etcd: "http://127.0.0.1:1"})
	if err := os.Remove(k.Config); err != nil {
		t.Fatal(err)
	}
	k.Start()
	if code := k.Wait(t.Context()); code != 2 {
		t.Errorf("exit code %d, not 2", code)
	}
	if said := k.Log(); !strings.Contains(said, k.Config) {
		t.Errorf("the missing file is not named:\n%s", said)
	}
}

// awaitUnready waits until keyhook says that it is not ready because of all that
// is wanted, and returns what it said.
func awaitUnready(ctx context.Context, t *testing.T, k *lab.Keyhook, wants ...string) string {
	t.Helper()
	var said string
	err := lab.Poll(ctx, func() (bool, error) {
		status, body, err := k.Get(ctx, "/readyz")
		if err != nil {
			return !k.Running(), err
		}
		if status == http.StatusOK {
			return false, fmt.Errorf("keyhook is ready: %s", body)
		}
		for _, want := range wants {
			if !strings.Contains(body, want) {
				return false, fmt.Errorf("%d: %s, without %q", status, body, want)
			}
		}
		said = body
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// An etcd that is not there yet keeps keyhook waiting, alive and unready, and
// nothing has to be done when it comes.
func TestEtcdComesLater(t *testing.T) {
	b := setUp(t, 2*time.Minute)
	hook := b.receiver.Inbox("hook")
	b.etcd.Stop()
	k := b.keyhook(everything(hook, "30s"))
	k.Start()
	awaitUnready(b.ctx, t, k, strings.TrimPrefix(b.etcd.Endpoint, "http://"))
	if status, body, err := k.Get(b.ctx, "/healthz"); err != nil || status != http.StatusOK {
		t.Errorf("healthz: %d %q, %v", status, body, err)
	}
	b.etcd.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()
	client := b.etcd.Client()
	_, err := client.Put(b.ctx, "/k/a", "1")
	b.must(err)
	b.must(hook.AwaitAccepted(b.ctx, 1))

	// It goes away and comes back.
	b.etcd.Kill()
	awaitUnready(b.ctx, t, k, "etcd")
	b.etcd.Start()
	k.AwaitReady()
	_, err = client.Put(b.ctx, "/k/a", "2")
	b.must(err)
	b.must(hook.AwaitAccepted(b.ctx, 2))
	b.stopped(k)
	b.check(hook, oracle.Promise{After: ready})
}

// Wrong credentials and missing permissions are told by name, without the
// password, and are no reason to end: somebody may put them right.
func TestEtcdDenies(t *testing.T) {
	b := setUp(t, 2*time.Minute)
	hook := b.receiver.Inbox("hook")
	client := b.etcd.Client()
	for user, password := range map[string]string{"root": "toor", "keyhook": "s3cret"} {
		_, err := client.UserAdd(b.ctx, user, password)
		b.must(err)
	}
	for _, role := range []string{"root", "reader"} {
		_, err := client.RoleAdd(b.ctx, role)
		b.must(err)
	}
	_, err := client.UserGrantRole(b.ctx, "root", "root")
	b.must(err)
	_, err = client.UserGrantRole(b.ctx, "keyhook", "reader")
	b.must(err)
	_, err = client.AuthEnable(b.ctx)
	b.must(err)
	root := b.etcd.Client(func(cfg *clientv3.Config) { cfg.Username, cfg.Password = "root", "toor" })

	t.Run("wrong password", func(t *testing.T) {
		const wrong = "wr0ng-passw0rd"
		k := newKeyhook(t, lab.Settings{Etcd: b.etcd.Endpoint, More: "  username: keyhook\n  password: " + wrong, Rules: everything(hook, "30s")})
		k.Start()
		said := awaitUnready(b.ctx, t, k, "password")
		if strings.Contains(said+k.Log(), wrong) {
			t.Error("the password is told")
		}
		if code := k.Stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("no permission", func(t *testing.T) {
		k := newKeyhook(t, lab.Settings{Etcd: b.etcd.Endpoint, More: "  username: keyhook\n  password: s3cret", Rules: everything(hook, "30s")})
		k.Start()
		awaitUnready(b.ctx, t, k, "/k/", "permission")

		_, err := root.RoleGrantPermission(b.ctx, "reader", "/k/", clientv3.GetPrefixRangeEnd("/k/"), clientv3.PermissionType(clientv3.PermRead))
		b.must(err)
		k.AwaitReady()
		_, err = root.Put(b.ctx, "/k/a", "1")
		b.must(err)
		b.must(hook.AwaitAccepted(b.ctx, 1))
		if code := k.Stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// Two processes in one data directory would undo each other's work.
func TestOneProcessADirectory(t *testing.T) {
	b := setUp(t, time.Minute)
	k := b.keyhook(everything(b.receiver.Inbox("hook"), "30s"))
	k.Start()
	k.AwaitReady()
	second := k.Twin()
	second.Start()
	if code := second.Wait(b.ctx); code != 1 {
		t.Errorf("the second process ended with code %d, not 1", code)
	}
	if said := second.Log(); !strings.Contains(said, filepath.Join(k.Dir, "data")) {
		t.Errorf("the directory is not named:\n%s", said)
	}
	k.AwaitReady() // the first one goes on
	b.stopped(k)
}

// Keys and values may be any bytes that etcd takes.
func TestAnyKeyAndAnyValue(t *testing.T) {
	b := setUp(t, 2*time.Minute)
	hook := b.receiver.Inbox("hook")
	k := b.keyhook(everything(hook, "30s"))
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	keys := []string{
		"/k/", "/k/a b", "/k/a\nb", "/k/a\x00b", "/k/\x00", "/k/.", "/k/..", "/k/a.b.c", "/k/*", "/k/>", "/k/{x}", "/k/%41", "/k/?q=1#f",
		"/k//", "/k/ä", "/k/\u2028", "/k/\xff\xfe", "/k/" + strings.Repeat("long/", 2000), `/k/"\`, "/k/\ufffd", "/k/\r",
	}
	values := []string{"", "\xff\xfe\x00", "null", `{"a": 1`, "\x00", strings.Repeat("x", 1_400_000), strings.Repeat("\xff", 1_400_000), "\ufeffbom", "\u2028"}
	client := b.etcd.Client()
	owed := 0
	put := func(key, value string) {
		t.Helper()
		_, err := client.Put(b.ctx, key, value)
		b.must(err)
		owed++
	}
	for _, key := range keys {
		put(key, "first of "+key)
		put(key, "second")
	}
	for _, value := range values {
		put("/k/value", value)
	}
	resp, err := client.Delete(b.ctx, "/k/", clientv3.WithPrefix())
	b.must(err)
	owed += int(resp.Deleted)
	b.must(hook.AwaitAccepted(b.ctx, owed))
	b.settled(k)
	b.stopped(k)
	r := b.check(hook, oracle.Promise{After: ready})
	if r.Changes != owed {
		t.Errorf("the history owes %d changes, not %d", r.Changes, owed)
	}
	if n := len(hook.Attempts()); n != owed {
		t.Errorf("%d attempts at %d changes that nothing failed", n, owed)
	}
}

// A receiver that refuses for good gets each change once, and it is kept.
func TestRefusedForGood(t *testing.T) {
	b := setUp(t, time.Minute)
	hook := b.receiver.Inbox("hook")
	hook.Follow(receiver.Always(receiver.Refuse))
	k := b.keyhook(everything(hook, "30s"))
	k.Start()
	k.AwaitReady()
	client := b.etcd.Client()
	for i := range 5 {
		_, err := client.Put(b.ctx, "/k/a", fmt.Sprint(i))
		b.must(err)
	}
	dead := func() {
		t.Helper()
		b.must(lab.Poll(b.ctx, func() (bool, error) {
			if n := k.Metric("keyhook_dead_letters"); n != 5 {
				return false, fmt.Errorf("%v dead letters", n)
			}
			return true, nil
		}))
	}
	dead()
	k.Kill()
	k.Start()
	k.AwaitReady()
	dead() // those since the last commit are refused once more
	b.owes(k, 0)
	b.stopped(k)
	if n := len(hook.Attempts()); n > 2*5 {
		t.Errorf("%d attempts at 5 changes, and one kill", n)
	}
}
