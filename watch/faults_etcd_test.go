package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
)

func TestAnInterruptedWatchGoesOnAtItsPosition(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	for i := range 30 {
		f.put("/a/k", fmt.Sprint(i))
		switch i % 10 {
		case 3:
			f.Disconnect()
			f.reconnect()
		case 7:
			f.Restart()
			f.reconnect()
		}
	}
	for i, e := range l.wait(t, 30) {
		if e.Version != int64(i+1) {
			t.Fatalf("change %d is %s", i, describe(e))
		}
	}
	r.awaitReady()
}

func TestAnUnreachableEtcdIsToldAndTriedAgain(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.Stop()
	if e := r.awaitError(Unreachable); e.Hint == "" || e.Halts() {
		t.Fatalf("%v (%s)", e, e.Hint)
	}
	f.Start()
	f.reconnect()
	r.awaitReady()
	f.put("/a/k", "1")
	l.wait(t, 1)
	if st := r.Status().Ranges[0]; st.Err != nil || st.LastError == "" || st.LastErrorAt.IsZero() {
		t.Fatalf("afterwards: %+v", st)
	}
	if n := strings.Count(r.logs.String(), "cannot be read"); n != 1 {
		t.Fatalf("logged %d times:\n%s", n, r.logs)
	}
}

func TestCompactionWhileAwayHaltsTheRangeAndNoOther(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
	r.awaitReady()
	r.stop()
	f.put("/a/k", "1") // 2: lost
	f.put("/a/k", "2") // 3
	f.compact(3)

	l = newLedger(l.mem)
	r = begin(t, l, config(f.Client(), l, prefix("/a/"), prefix("/b/")), halting)
	st := r.await("halted beside a range that is ready", func(st Status) bool {
		return len(st.Ranges) == 2 && st.Ranges[0].Halted && st.Ranges[1].Ready
	})
	if st.Ready {
		t.Error("ready in spite of a halted range")
	}
	var e *Error
	if err := error(st.Ranges[0].Err); !errors.As(err, &e) || e.Kind != Compacted || e.Hint == "" ||
		!strings.Contains(err.Error(), "compacted its history up to revision 3, the changes from revision 2 to 2 cannot be read any more") {
		t.Fatal(st.Ranges[0].Err)
	}
	if st.Compacted != 3 {
		t.Errorf("compacted is %d", st.Compacted)
	}
	f.put("/b/k", "1")
	equal(t, l.wait(t, 1), "4 PUT /b/k=1 v1 c4")

	// A range that is taken out and put back begins anew.
	if err := r.SetRanges([]keyhook.Range{prefix("/b/")}); err != nil {
		t.Fatal(err)
	}
	r.await("without the range", func(st Status) bool { return st.Ready && len(st.Ranges) == 1 })
	if err := r.SetRanges([]keyhook.Range{prefix("/a/"), prefix("/b/")}); err != nil {
		t.Fatal(err)
	}
	r.await("with the range", func(st Status) bool { return st.Ready && len(st.Ranges) == 2 })
	f.put("/a/k", "3")
	equal(t, l.wait(t, 2)[1:], "5 PUT /a/k=3 v3 c2 prev=2@3 last=2@3")
	if gaps, _ := r.counts.seen(); len(gaps) != 1 || gaps[0] != keyhook.GapCompacted {
		t.Errorf("gaps: %v", gaps)
	}
}

func TestRolledBackHistoryHaltsTheRange(t *testing.T) {
	for _, c := range []struct {
		name  string
		after func(f *fixture) // what is written after the restore
		want  string
	}{
		{"with fewer revisions", func(*fixture) {}, "etcd is at revision 2, but changes up to revision 3 were read"},
		{"with another change at the position", func(f *fixture) { f.put("/a/k", "another"); f.put("/a/k", "2") }, "the change of revision 3"},
		{"with the same key and no value there", func(f *fixture) { f.del("/a/k"); f.put("/a/k", "2") }, "the change of revision 3"},
		{"with another key there", func(f *fixture) { f.put("/a/l", "2"); f.put("/a/k", "2") }, "the change of revision 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
			r.awaitReady()
			f.put("/a/k", "1")
			l.wait(t, 1)
			r.stop()
			saved := f.Save()
			f.reconnect()
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
			f.put("/a/k", "2")
			l.wait(t, 1)
			r.stop()

			f.Restore(saved)
			f.reconnect()
			c.after(f)
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
			if e := r.awaitError(RolledBack); !strings.Contains(e.Error(), c.want) || e.Hint == "" || !e.Halts() {
				t.Fatal(e)
			}
			if n := len(l.admitted()); n != 0 {
				t.Fatalf("%d changes were admitted", n)
			}
		})
	}
}

func TestARollbackUnderARunningWatchIsNoticed(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "0")
	saved := f.Save()
	f.reconnect()
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
	r.awaitReady()
	f.put("/a/k", "1")
	l.wait(t, 1)
	f.Restore(saved)
	f.reconnect()
	if e := r.awaitError(RolledBack); !e.Halts() {
		t.Fatal(e)
	}
	// The same history comes back: nothing was lost after all.
	f.put("/a/k", "1")
	r.awaitReady()
	f.put("/a/k", "2")
	equal(t, l.wait(t, 2)[1:], "4 PUT /a/k=2 v3 c2 prev=1@3 last=1@3")
}

func TestAnotherClusterHaltsTheRange(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.Identity.ClusterID = 0xabc })
	if e := r.awaitError(WrongCluster); !strings.Contains(e.Error(), "belongs to cluster abc") || e.Hint == "" {
		t.Fatal(e)
	}
	if st := l.states(t); len(st) != 0 {
		t.Fatalf("durable: %v", st)
	}
}

func TestAnIdleRangeAdvancesByProgress(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	var rev int64
	for range 20 {
		rev = f.put("/b/busy", "x")
	}
	r.awaitPosition(rev)
	r.stop()
	f.compact(rev)
	l = newLedger(l.mem)
	r = begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	if st := l.states(t)[0]; st.Anchor != nil {
		t.Fatalf("an anchor without a change: %+v", st.Anchor)
	}
}

func TestARangeOfAnEtcdThatNobodyWritesToStaysReady(t *testing.T) {
	f := newFixture(t)
	rev := f.put("/a/k", "1")
	l := newLedger(checkpointtest.NewMemory())
	r := prepared(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) {
		c.ProgressInterval, c.ProgressDeadline = 10*time.Millisecond, 50*time.Millisecond
	})
	asked := &counted{history: r.etcd}
	r.etcd = asked
	r.start()
	r.awaitReady()
	// Old versions answer requests for progress; it is looked after their watches all
	// the same.
	before := asked.heads.Load()
	r.await("silent for long", func(st Status) bool {
		if !st.Ready {
			t.Fatalf("no longer ready: %+v", st)
		}
		return asked.heads.Load() > before+4
	})
	if next := f.put("/a/k", "2"); next != rev+1 {
		t.Fatalf("revision %d after %d", next, rev)
	}
	if got := l.wait(t, 1); got[0].Version != 2 {
		t.Fatal(describe(got[0]))
	}
}

func TestAWrongPasswordIsToldByConnect(t *testing.T) {
	f := newFixture(t, etcdtest.WithAuth("secret"))
	_, err := Connect(t.Context(), ClientConfig{Endpoints: f.Endpoints(), Username: "root", Password: "hunter2"})
	var e *Error
	if !errors.As(err, &e) || e.Kind != AuthFailed || !strings.Contains(err.Error(), `refuses the user "root" or its password`) || e.Hint == "" {
		t.Fatal(err)
	}
	if strings.Contains(fmt.Sprintf("%+v %s", err, e.Hint), "hunter2") {
		t.Fatal("the error tells the password")
	}
	c, err := Connect(t.Context(), ClientConfig{Endpoints: f.Endpoints(), Username: "root", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestAClientWithoutAUserIsTold(t *testing.T) {
	f := newFixture(t, etcdtest.WithAuth("secret"))
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.ClientAs("", ""), l, prefix("/a/")), func(c *Config) { c.Identity.ClusterID = 1 })
	if e := r.awaitError(AuthFailed); !strings.Contains(e.Error(), "asks for a user") {
		t.Fatal(e)
	}
}

func TestAMissingPermissionNamesTheRange(t *testing.T) {
	f := newFixture(t, etcdtest.WithAuth("secret"))
	f.AddUser("hook", "word", [2]string{"/a/", "/a0"})
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.ClientAs("hook", "word"), l, prefix("/a/"), prefix("/b/")))
	st := r.await("denied", func(st Status) bool {
		return len(st.Ranges) == 2 && st.Ranges[0].Ready && st.Ranges[1].Err != nil
	})
	e := st.Ranges[1].Err
	if e.Kind != PermissionDenied || !strings.Contains(e.Error(), `the user "hook" needs READ on ["/b/", "/b0")`) ||
		!strings.Contains(e.Hint, `etcdctl role grant-permission ROLE read --prefix "/b/"`) {
		t.Fatalf("%v (%s)", e, e.Hint)
	}
	// Once it is granted, the range begins.
	if _, err := f.kv.RoleGrantPermission(t.Context(), "hook", "/b/", "/b0", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	r.awaitReady()
}

func TestATokenThatEtcdForgotIsReplaced(t *testing.T) {
	f := newFixture(t, etcdtest.WithAuth("secret"))
	f.AddUser("hook", "word", [2]string{"/a/", "/a0"})
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.ClientAs("hook", "word"), l, prefix("/a/")))
	r.awaitReady()
	f.Restart() // simple tokens live in memory
	f.reconnect()
	f.put("/a/k", "1")
	l.wait(t, 1)
	r.awaitReady()
}

func TestTLSAndARotatedCertificate(t *testing.T) {
	f := newFixture(t, etcdtest.WithTLS())
	files := f.TLS()
	c, err := Connect(t.Context(), ClientConfig{
		Endpoints: f.Endpoints(), TLS: &TLSFiles{CAFile: files.CAFile, CertFile: files.CertFile, KeyFile: files.KeyFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(c, l, prefix("/a/")))
	r.awaitReady()
	files.RotateClient()
	f.Disconnect()
	f.reconnect()
	f.put("/a/k", "1")
	l.wait(t, 1)

	other, err := Connect(t.Context(), ClientConfig{Endpoints: f.Endpoints(), TLS: &TLSFiles{CAFile: files.CAFile}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	l = newLedger(checkpointtest.NewMemory())
	r = begin(t, l, config(other, l, prefix("/a/")), func(c *Config) { c.Identity.ClusterID = 1 })
	if e := r.awaitError(Unreachable); !strings.Contains(e.Hint, "etcd.tls") {
		t.Fatalf("%v (%s)", e, e.Hint)
	}
}

func TestConnectRefusesWhatCannotWork(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	http, https := []string{"http://127.0.0.1:1"}, []string{"https://127.0.0.1:1"}
	for _, c := range []struct {
		cfg  ClientConfig
		want string
	}{
		{ClientConfig{}, "no endpoints"},
		{ClientConfig{Endpoints: http, Username: "u"}, "both a name and a password"},
		{ClientConfig{Endpoints: http, TLS: &TLSFiles{}}, "does not use TLS"},
		{ClientConfig{Endpoints: https, TLS: &TLSFiles{CAFile: bad}}, "holds no PEM certificate"},
		{ClientConfig{Endpoints: https, TLS: &TLSFiles{CAFile: bad + "x"}}, "no such file"},
		{ClientConfig{Endpoints: https, TLS: &TLSFiles{CertFile: bad}}, "both a certificate and a key"},
		{ClientConfig{Endpoints: https, TLS: &TLSFiles{CertFile: bad, KeyFile: bad}}, "the client certificate for etcd"},
		{ClientConfig{Endpoints: append(http, https...)}, "others do not"},
	} {
		if _, err := Connect(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Connect(ctx, ClientConfig{Endpoints: []string{"http://127.0.0.1:1"}, Username: "u", Password: "p"})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, err = Connect(t.Context(), ClientConfig{
		Endpoints: []string{"http://127.0.0.1:1"}, Username: "u", Password: "p", Timeout: 100 * time.Millisecond,
	})
	var e *Error
	if !errors.As(err, &e) || e.Kind != Unreachable {
		t.Fatal(err)
	}
}

func TestAFullQueuePausesTheWatchAndLosesNothing(t *testing.T) {
	const changes = 3000
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.QueueBytes = 64 << 10 })
	r.awaitReady()
	unblock := l.block()
	defer unblock()
	for i := range changes {
		f.put("/a/k", fmt.Sprintf("%01000d", i))
		if i == changes/2 {
			unblock()
		}
	}
	events := l.wait(t, changes)
	for i, e := range events {
		if e.Version != int64(i+1) {
			t.Fatalf("change %d is %s", i, describe(e))
		}
	}
	if len(events) != changes {
		t.Fatalf("%d changes", len(events))
	}
	if !strings.Contains(r.logs.String(), "pauses until there is room") {
		t.Fatal("the queue was never full")
	}
}

func TestALeasesEndIsADelete(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	lease, err := f.kv.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	f.put("/a/1", "x", clientv3.WithLease(lease.ID))
	f.put("/a/2", "y", clientv3.WithLease(lease.ID))
	if _, err := f.kv.Revoke(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	events := l.wait(t, 4)
	if events[0].Lease != int64(lease.ID) || events[2].Lease != 0 || events[2].Prev.Lease != int64(lease.ID) {
		t.Fatal(brief(events))
	}
	equal(t, events[2:], "4 DELETE /a/1 prev=x@2 last=x@2", "4 DELETE /a/2 prev=y@3 last=y@3")
}

func TestKeysAndValuesOfAnyKind(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, keyhook.Range{}), func(c *Config) { c.Start = Snapshot })
	r.awaitReady()
	large := strings.Repeat("\x00\xff", 3<<18-100)
	keys := []string{"\xff\xfe", "\x00", "a b\n.*?\x00\"", "\xff\xff", "é"}
	for _, k := range keys {
		f.put(k, large)
		f.put(k, "")
	}
	events := l.wait(t, 2*len(keys))
	for i, k := range keys {
		if e := events[2*i]; string(e.Key) != k || string(e.Value) != large {
			t.Fatalf("%q arrived as %q", k, e.Key)
		}
		if e := events[2*i+1]; len(e.Value) != 0 || string(e.Prev.Value) != large {
			t.Fatalf("%q: the second change is wrong", k)
		}
	}
}
