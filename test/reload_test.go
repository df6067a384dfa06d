package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook/test/lab"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

// stale waits until keyhook says whether its rules are those of the files.
func stale(ctx context.Context, t *testing.T, k *lab.Keyhook, want float64) {
	t.Helper()
	err := lab.Poll(ctx, func() (bool, error) {
		if got := k.Metric("keyhook_rules_stale"); got != want {
			return false, fmt.Errorf("keyhook_rules_stale is %v", got)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The rules change while keyhook runs: all of them or, where something is wrong
// with the files, none.
func TestRulesChangeWhileRunning(t *testing.T) {
	b := setUp(t, 2*time.Minute)
	one, two := b.receiver.Inbox("one"), b.receiver.Inbox("two")
	client := b.etcd.Client()
	put := func(key string) {
		t.Helper()
		_, err := client.Put(b.ctx, key, "value")
		b.must(err)
	}
	k := b.keyhook(everything(one, "30s"))
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()
	put("/k/a")
	b.must(one.AwaitAccepted(b.ctx, 1))

	// A file that an editor is still writing, one that is empty, one that is
	// wrong, and none at all: the running rules go on.
	path := filepath.Join(k.Dir, "rules.yaml")
	good := everything(one, "30s")
	for i, text := range []string{good[:len(good)/2], "", strings.Replace(good, "keys:", "kesy:", 1)} {
		b.must(os.WriteFile(path, []byte(text), 0o600))
		stale(b.ctx, t, k, 1)
		put("/k/a")
		b.must(one.AwaitAccepted(b.ctx, 2+i))
		k.WriteRules(good)
		stale(b.ctx, t, k, 0)
	}
	b.must(os.Remove(path))
	stale(b.ctx, t, k, 1)
	status, body, err := k.Get(b.ctx, "/api/v1/status")
	if err != nil || status != http.StatusOK || !strings.Contains(body, "rules.yaml") {
		t.Errorf("the status does not name the file: %d %s, %v", status, body, err)
	}
	k.Hangup()
	put("/k/a")
	b.must(one.AwaitAccepted(b.ctx, 5))

	// Another rule, for keys that nobody watched before.
	k.WriteRules(good + `
  - name: other
    keys: /other/{path...}
    send: {sink: two}
`)
	stale(b.ctx, t, k, 1) // there is no such sink
	k.WriteRules(strings.Replace(good, "rules:", fmt.Sprintf("  - name: two\n    webhook: {url: %q}\nrules:\n  - name: other\n    keys: /other/{path...}\n    send: {sink: two}", two.URL), 1))
	stale(b.ctx, t, k, 0)
	k.Hangup()
	k.AwaitReady()
	put("/other/a")
	b.must(two.AwaitAccepted(b.ctx, 1))
	put("/k/a")
	b.must(one.AwaitAccepted(b.ctx, 6))
	b.stopped(k)
	b.check(one, oracle.Promise{After: ready})
}

// A rule that is removed, and its sink with it, still delivers what it owes.
func TestARemovedRuleDeliversWhatItOwes(t *testing.T) {
	b := setUp(t, 2*time.Minute)
	old, other := b.receiver.Inbox("old"), b.receiver.Inbox("other")
	old.Follow(receiver.Always(receiver.Unavailable))
	k := b.keyhook(everything(old, "30s"))
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()
	client := b.etcd.Client()
	for i := range 10 {
		_, err := client.Put(b.ctx, fmt.Sprint("/k/", i%3), fmt.Sprint(i))
		b.must(err)
	}
	b.must(old.AwaitArrived(b.ctx, 3))
	k.WriteRules(strings.NewReplacer("name: hook", "name: new", "sink: hook", "sink: new", "name: all", "name: changed", old.URL, other.URL).Replace(everything(old, "30s")))
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		// The new rule is at work once it delivers.
		if _, err := client.Put(b.ctx, "/k/probe", "x"); err != nil {
			return true, err
		}
		if other.Accepted() == 0 {
			return false, errors.New("the new rule delivers nothing")
		}
		return true, nil
	}))
	old.Follow(receiver.Accepting)
	b.owes(k, 0)
	b.stopped(k)
	// How many of the probes went the old way is a matter of time.
	probe := func(a oracle.Attempt) bool { return a.Key == "/k/probe" }
	h := b.history().Under(func(key string) bool { return key != "/k/probe" })
	r := oracle.Check(h, slices.DeleteFunc(old.Attempts(), probe), oracle.Promise{After: ready})
	if err := r.Err(); err != nil || r.Delivered != 10 {
		t.Errorf("%v: %v", r, err)
	}
}
