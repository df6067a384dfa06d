package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// streams counts the streams that are opened, and lets something happen before
// some of them.
type streams struct {
	history
	mu     sync.Mutex
	opened int
	before func(n int)
}

func (s *streams) watch(ctx context.Context, r keyhook.Range, rev int64, fragments bool) (stream, error) {
	s.mu.Lock()
	s.opened++
	if s.before != nil {
		s.before(s.opened)
	}
	s.mu.Unlock()
	return s.history.watch(ctx, r, rev, fragments)
}

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// read runs a watcher from revision first on, of which streams are counted.
func read(t *testing.T, f *fixture, first int64, before func(n int), changes ...func(*Config)) (*run, *streams) {
	t.Helper()
	l := newLedger(checkpointtest.NewMemory())
	cfg := config(f.Client(), l, prefix("/a/"))
	cfg.States = []checkpoint.RangeState{{Range: prefix("/a/"), Position: keyhook.Position{Next: first}}}
	cfg.HaltOnGap, cfg.CatchUpBehind = true, 100
	r := prepared(t, l, cfg, changes...)
	s := &streams{history: r.etcd, before: before}
	r.etcd = s
	r.start()
	return r, s
}

// busy writes n revisions at once, as many writers do.
func (f *fixture) busy(n int, key func(i int) string, value string) {
	f.t.Helper()
	const writers = 32
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := w; i < n; i += writers {
				if _, err := f.kv.Put(f.t.Context(), key(i), value); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fixture) revision() int64 {
	f.t.Helper()
	resp, err := f.kv.Get(f.t.Context(), "any")
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Header.Revision
}

func dense(i int) string { return fmt.Sprint("/a/", i%500) }

// history is what etcd holds of /a/ from revision 2 on, as one watcher reads it.
func (f *fixture) history() []string {
	f.t.Helper()
	end := f.put("/a/end", "1")
	var all []string
	ctx, cancel := context.WithCancel(f.t.Context())
	defer cancel()
	for resp := range f.kv.Watch(ctx, "/a/", clientv3.WithPrefix(), clientv3.WithRev(2)) {
		for _, ev := range resp.Events {
			all = append(all, fmt.Sprintf("%d %s %s=%s", ev.Kv.ModRevision, ev.Type, ev.Kv.Key, ev.Kv.Value))
			if ev.Kv.ModRevision == end {
				return all
			}
		}
	}
	f.t.Fatal("the watch ended")
	return nil
}

func plainly(events []*keyhook.Event) []string {
	all := make([]string, 0, len(events))
	for _, e := range events {
		all = append(all, fmt.Sprintf("%d %s %s=%s", e.Revision, e.Type, e.Key, e.Value))
	}
	return all
}

// A backlog that is read in segments comes whole and in order: busy and quiet
// stretches, transactions that touch keys twice, a revision that is larger than
// any segment, and what is written meanwhile.
func TestABacklogOfAnyShapeIsReadInSegmentsAndInOrder(t *testing.T) {
	f := newFixture(t)
	f.busy(2500, dense, "1")
	f.busy(1500, func(i int) string { return fmt.Sprint("/b/", i%10) }, "1")
	f.busy(1200, func(i int) string {
		if i%50 == 0 {
			return "/a/sparse"
		}
		return "/b/x"
	}, "1")
	for i := range 200 {
		f.txn(clientv3.OpPut("/a/t1", fmt.Sprint(i)), clientv3.OpPut("/b/t", "1"), clientv3.OpPut("/a/t2", fmt.Sprint(i)),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete("/a/t3"), clientv3.OpPut("/a/t4", "1")}, nil))
	}
	f.del("/a/", clientv3.WithPrefix())
	f.busy(2500, dense, "2")
	r, s := read(t, f, 2, func(n int) {
		if n == 3 {
			f.put("/a/meanwhile", "1")
		}
	}, func(c *Config) { c.CatchUpWatchers = 4 })
	r.await("the backlog is read", func(st Status) bool {
		return st.Ready && strings.Contains(r.logs.String(), "a backlog was read")
	})
	want := f.history()
	got := plainly(r.ledger.wait(t, len(want)))
	if !slices.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("change %d is %s, not %s", i, got[i], want[i])
			}
		}
	}
	if n := s.count(); n < 5 {
		t.Errorf("%d streams", n)
	}
}

func TestASparseBacklogIsReadByFewWatchers(t *testing.T) {
	f := newFixture(t)
	f.busy(6000, func(i int) string {
		if i%20 == 0 {
			return "/a/k"
		}
		return "/b/x"
	}, "1")
	r, s := read(t, f, 2, nil)
	r.awaitReady()
	r.ledger.wait(t, 300)
	r.awaitPosition(f.revision())
	if n := s.count(); n > 2 { // one of them for the compaction
		t.Errorf("%d streams", n)
	}
}

// Segments grow where little happens: behind a busy stretch, too.
func TestSegmentsGrowInAQuietStretch(t *testing.T) {
	f := newFixture(t)
	f.busy(1100, dense, "1")
	f.busy(12_000, func(int) string { return "/b/x" }, "1")
	r, s := read(t, f, 2, nil, func(c *Config) { c.CatchUpWatchers = 2 })
	r.ledger.wait(t, 1100)
	r.awaitPosition(f.revision())
	if n := s.count(); n > 10 { // 13 of a thousand revisions each, one more for the compaction
		t.Errorf("%d streams", n)
	}
}

// etcd puts a thousand revisions of the range into a response. Where there are more
// of them in a segment than expected, the rest of it is read by another watcher.
func TestASegmentThatIsFullerThanExpectedIsReadToItsEnd(t *testing.T) {
	f := newFixture(t)
	f.busy(6000, func(i int) string {
		if i%5 == 0 {
			return dense(i)
		}
		return "/b/x"
	}, "1")
	f.busy(6000, dense, "2")
	r, _ := read(t, f, 2, nil)
	want := f.history()
	if got := plainly(r.ledger.wait(t, len(want))); !slices.Equal(got, want) {
		t.Fatalf("%d changes, not %d", len(got), len(want))
	}
	if !strings.Contains(r.logs.String(), "a backlog was read") {
		t.Fatalf("log:\n%s", r.logs)
	}
}

func TestWhatInterruptsSegmentsLosesNothing(t *testing.T) {
	f := newFixture(t)
	f.busy(5000, dense, "1")
	r, _ := read(t, f, 2, func(n int) {
		if n%5 == 0 && n < 20 {
			f.Disconnect()
		}
	}, func(c *Config) { c.CatchUpWatchers = 3 })
	want := f.history()
	if got := plainly(r.ledger.wait(t, len(want))); !slices.Equal(got, want) {
		t.Fatalf("%d changes, not %d", len(got), len(want))
	}
}

// Values are larger than those at the beginning let expect.
func TestSegmentsStayWithinMemory(t *testing.T) {
	f := newFixture(t)
	f.busy(1500, dense, "1")
	f.busy(3500, dense, strings.Repeat("x", 4000))
	l := newLedger(checkpointtest.NewMemory())
	unblock := l.block()
	defer unblock()
	r, _ := read(t, f, 2, nil, func(c *Config) {
		c.QueueBytes, c.CatchUpBytes, c.Consumer, c.Mirror = 2<<20, 2<<20, l, l.mem
	})
	r.await("one is too large", func(Status) bool { return strings.Contains(r.logs.String(), "is read again when it is its turn") })
	unblock()
	want := f.history()
	if got := plainly(l.wait(t, len(want))); !slices.Equal(got, want) {
		t.Fatalf("%d changes, not %d", len(got), len(want))
	}
}

func TestCompactionWhileABacklogIsReadIsAGap(t *testing.T) {
	f := newFixture(t)
	f.busy(6000, dense, "1")
	head := f.revision()
	r, _ := read(t, f, 2, func(n int) {
		if n == 4 {
			f.compact(head)
		}
	}, func(c *Config) { c.CatchUpWatchers = 2 })
	if e := r.awaitError(Compacted); e.Hint == "" {
		t.Error(e)
	}
	events := r.ledger.admitted()
	for i, e := range events {
		if e.Revision != int64(i+2) {
			t.Fatalf("change %d is %s", i, describe(e))
		}
	}
	if len(events) < 1000 || len(events) > 5000 {
		t.Fatalf("%d changes before the gap", len(events))
	}
	r.Resume()
	r.awaitReady()
	r.awaitPosition(head)
}

// etcd is another one when the later segments are read: what they hold does not
// follow what was read before, and is not taken.
func TestSegmentsOfTwoHistoriesAreNotMixed(t *testing.T) {
	f := newFixture(t)
	f.busy(5000, dense, "1")
	saved := false
	r, _ := read(t, f, 2, func(n int) {
		if n < 4 || saved {
			return
		}
		saved = true
		f.Wipe()
		f.reconnect()
		f.busy(5500, dense, "2")
	}, func(c *Config) { c.CatchUpWatchers = 2 })
	if e := r.awaitError(RolledBack); e.Hint == "" {
		t.Error(e)
	}
	for _, e := range r.ledger.admitted() {
		if string(e.Value) != "1" {
			t.Fatalf("of another history: %s", describe(e))
		}
	}
}

// The reader stands in what both histories have in common; the segment was read
// before etcd was taken back.
func TestASegmentOfAnotherHistoryIsNotTaken(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := newRunner(prepared(t, l, config(f.Client(), l, prefix("/a/"))).shared, prefix("/a/"))
	f.put("/a/k", "common") // 2
	f.put("/a/k", "now")    // 3
	for value, taken := range map[string]bool{"now": true, "before": false} {
		ev := func(value string, rev int64) *mvccpb.Event {
			return &mvccpb.Event{Kv: &mvccpb.KeyValue{
				Key: []byte("/a/k"), Value: []byte(value), ModRevision: rev, CreateRevision: 2, Version: rev - 1,
			}}
		}
		s := &segment{start: 3, end: 4, done: make(chan struct{})}
		close(s.done)
		s.responses = []*etcdserverpb.WatchResponse{{Events: []*mvccpb.Event{ev(value, 3)}}}
		c := &catchUp{runner: r, active: []*segment{s}}
		ready, err := c.complete(t.Context(), &reader{pos: keyhook.After(2), anchor: anchorOf(ev("common", 2))})
		var e *Error
		switch {
		case taken && (err != nil || len(ready) != 1):
			t.Errorf("%q: %d segments, %v", value, len(ready), err)
		case !taken && (!errors.As(err, &e) || e.Kind != RolledBack):
			t.Errorf("%q: %v", value, err)
		}
	}
}
