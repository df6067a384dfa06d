package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
)

func TestEachStartBeginsWhereItSays(t *testing.T) {
	f := newFixture(t)
	f.put("/a/x", "1") // 2
	f.put("/a/y", "2") // 3
	f.put("/b/z", "3") // 4
	f.put("/a/x", "4") // 5
	f.compact(3)

	for _, c := range []struct {
		start Start
		want  []string
	}{
		{Now, nil},
		{Snapshot, []string{"5 PUT /a/x=4 v2 c2 synthetic", "3 PUT /a/y=2 v1 c3 synthetic"}},
		{Earliest, []string{"5 PUT /a/x=4 v2 c2 prev=1@2 last=1@2"}},
		{FromRevision(5), []string{"5 PUT /a/x=4 v2 c2 prev=1@2 last=1@2"}},
		// The revision before is compacted, so that what y held is not known.
		{FromRevision(3), []string{"3 PUT /a/y=2 v1 c3", "5 PUT /a/x=4 v2 c2 prev=1@2 last=1@2"}},
		{FromRevision(6), nil},
	} {
		t.Run(c.start.String(), func(t *testing.T) {
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(cfg *Config) { cfg.Start = c.start })
			r.awaitReady()
			r.awaitPosition(5)
			equal(t, l.wait(t, len(c.want)), c.want...)
			if _, n := r.counts.seen(); n != 0 {
				t.Errorf("%d changes do not follow the mirror", n)
			}
		})
	}
}

func TestEarliestIsAllOfHistoryIfNothingWasCompacted(t *testing.T) {
	f := newFixture(t)
	f.put("/a/x", "1")
	f.del("/a/x")
	l := newLedger(checkpointtest.NewMemory())
	begin(t, l, config(f.Client(), l, prefix("/a/")), func(cfg *Config) { cfg.Start = Earliest })
	equal(t, l.wait(t, 2), "2 PUT /a/x=1 v1 c2", "3 DELETE /a/x prev=1@2 last=1@2")
}

// TestAStartThatIsNotReachedYetIsWaitedFor, without halting: nobody has to do
// anything about it.
func TestAStartThatIsNotReachedYetIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(cfg *Config) { cfg.Start = FromRevision(5) })
	e := r.awaitError(StartAhead)
	if !strings.Contains(e.Error(), "revision 5, but etcd is at revision 1 only") || e.Hint == "" || e.Halts() {
		t.Fatalf("%v (%s)", e, e.Hint)
	}
	for i := range 4 {
		f.put("/a/x", fmt.Sprint(i))
	}
	events := l.wait(t, 1)
	equal(t, events, "5 PUT /a/x=3 v4 c2 prev=2@4 last=2@4")
}

func TestACompactedStartIsAnError(t *testing.T) {
	f := newFixture(t)
	for i := range 4 {
		f.put("/a/x", fmt.Sprint(i))
	}
	f.compact(4)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(cfg *Config) { cfg.Start = FromRevision(3) })
	if e := r.awaitError(BadStart); !strings.Contains(e.Error(), "compacted its history up to revision 4") {
		t.Fatal(e)
	}
	if got := r.Status().Compacted; got != 4 {
		t.Fatalf("compacted is %d", got)
	}
}

// crashAt ends a ledger's life at the n-th batch.
type crashAt struct {
	*ledger
	left int
}

func (c *crashAt) Admit(ctx context.Context, b *Batch) error {
	c.left--
	if c.left < 0 {
		return errors.New("crashed")
	}
	return c.ledger.Admit(ctx, b)
}

func TestASeedGoesOnAfterACrashAtAnyPage(t *testing.T) {
	f := newFixture(t)
	const keys = 40
	for i := range keys {
		f.put(fmt.Sprintf("/a/%02d", i), "0")
	}
	for crash := 1; crash <= 10; crash++ {
		l := newLedger(checkpointtest.NewMemory())
		cfg := config(f.Client(), l, prefix("/a/"))
		cfg.Start, cfg.PageKeys = Snapshot, 4
		cfg.Identity.ClusterID = clusterOf(t, f)
		cfg.Consumer = &crashAt{ledger: l, left: crash}
		w, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "crashed") {
			t.Fatalf("Run returned %v", err)
		}
		// What happens now belongs to the changes after the start.
		f.put("/a/00", fmt.Sprint(crash))
		next := newLedger(l.mem)
		cfg.Consumer, cfg.Mirror = next, next.mem
		r := begin(t, next, cfg)
		got := append(l.admitted(), next.wait(t, keys+1-len(l.admitted()))...)
		for i, e := range got[:keys] {
			if string(e.Key) != fmt.Sprintf("/a/%02d", i) || !e.Synthetic || !e.Created() {
				t.Fatalf("crash %d: change %d is %s", crash, i, describe(e))
			}
		}
		if e := got[keys]; string(e.Value) != fmt.Sprint(crash) || e.Prev == nil || e.Synthetic {
			t.Fatalf("crash %d: the last change is %s", crash, describe(e))
		}
		r.stop()
	}
}

func clusterOf(t *testing.T, f *fixture) uint64 {
	t.Helper()
	id, err := ClusterID(t.Context(), f.kv, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestTheStartIsDurableBeforeAnythingElse(t *testing.T) {
	f := newFixture(t)
	rev := f.put("/a/x", "1")
	l := newLedger(checkpointtest.NewMemory())
	l.setManual(true)
	cfg := config(f.Client(), l, prefix("/a/"))
	cfg.Start, cfg.Identity.ClusterID = Snapshot, clusterOf(t, f)
	cfg.Consumer = &crashAt{ledger: l, left: 1} // the page is refused
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err == nil {
		t.Fatal("Run returned nil")
	}
	st := l.states(t)
	if len(st) != 1 || st[0].Position != keyhook.After(rev) || st[0].Seed == nil || st[0].Seed.Revision != rev || !st[0].Seed.Emit {
		t.Fatalf("durable: %+v", st)
	}
}

func TestASeedGoesOnIfItsRevisionIsCompacted(t *testing.T) {
	f := newFixture(t)
	for i := range 20 {
		f.put(fmt.Sprintf("/a/%02d", i), "0")
	}
	l := newLedger(checkpointtest.NewMemory())
	cfg := config(f.Client(), l, prefix("/a/"))
	cfg.PageKeys, cfg.Identity.ClusterID = 4, clusterOf(t, f)
	cfg.Consumer = &crashAt{ledger: l, left: 3}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err == nil {
		t.Fatal("Run returned nil")
	}
	f.del("/a/00")
	f.compact(f.put("/a/01", "1"))

	next := newLedger(l.mem)
	cfg.Consumer, cfg.Mirror = next, next.mem
	r := begin(t, next, cfg)
	r.awaitReady()
	f.put("/a/19", "1")
	f.put("/a/00", "2")
	equal(t, next.wait(t, 4),
		"2 DELETE /a/00#-1 synthetic prev=0@2 last=0@2",
		"23 PUT /a/01=1 v2 c3 synthetic prev=0@3 last=0@3",
		"24 PUT /a/19=1 v2 c21 prev=0@21 last=0@21",
		"25 PUT /a/00=2 v1 c25 last=0@2",
	)
	if gaps, _ := r.counts.seen(); !strings.Contains(r.logs.String(), "compacted while the range was being listed") || len(gaps) != 1 {
		t.Fatalf("gaps %v, log:\n%s", gaps, r.logs)
	}
}

func TestPagesStayBoundedWhateverTheValues(t *testing.T) {
	f := newFixture(t)
	want := 0
	for i := range 300 {
		f.put(fmt.Sprintf("/a/%04d", i), "small")
		want++
	}
	large := strings.Repeat("x", 1<<20)
	for i := range 12 {
		f.put(fmt.Sprintf("/a/9%03d", i), large)
		want++
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.Start, c.PageBytes = Snapshot, 2<<20 })
	r.awaitReady()
	if n := len(l.wait(t, want)); n != want {
		t.Fatalf("%d keys of %d", n, want)
	}
	for e, err := range l.mem.Entries(t.Context(), 0, prefix("/a/9")) {
		if err != nil || string(e.Value) != large {
			t.Fatalf("%s is wrong in the mirror: %v", e.Key, err)
		}
	}
}
