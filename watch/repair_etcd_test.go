package watch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// aGap leaves a checkpoint behind that lies before etcd's compaction. Of /a/ the
// keys same, old, gone and again were read; the changes of the last three, and of
// new, were not.
func aGap(t *testing.T, f *fixture) *ledger {
	t.Helper()
	for _, k := range []string{"again", "gone", "old", "same"} {
		f.put("/a/"+k, "1") // 2 to 5
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/old", "2") // 6
	l.wait(t, 1)
	r.stop()
	f.put("/a/old", "3") // 7
	f.put("/a/old", "4") // 8
	f.del("/a/again")    // 9
	f.put("/a/again", "2")
	f.del("/a/gone") // 11
	f.put("/a/new", "1")
	f.put("/b/other", "1") // 13
	f.compact(13)
	return newLedger(l.mem)
}

func TestACompactedGapIsRepaired(t *testing.T) {
	f := newFixture(t)
	l := aGap(t, f)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/gone", "2")
	f.put("/a/new", "2")
	equal(t, l.wait(t, 6),
		"10 PUT /a/again=2 v1 c10 synthetic last=1@2",
		"3 DELETE /a/gone#-1 synthetic prev=1@3 last=1@3",
		"12 PUT /a/new=1 v1 c12 synthetic",
		"8 PUT /a/old=4 v4 c4 synthetic prev=2@6 last=2@6",
		"14 PUT /a/gone=2 v1 c14 last=1@3",
		"15 PUT /a/new=2 v2 c12 prev=1@12 last=1@12",
	)
	want := keyhook.Gap{Range: prefix("/a/"), Reason: keyhook.GapCompacted, From: 7, To: 13, Created: 1, Changed: 2, Deleted: 1}
	gaps := l.repaired()
	if len(gaps) != 1 || gaps[0].At.IsZero() {
		t.Fatalf("gaps: %+v", gaps)
	}
	got := *gaps[0]
	got.At = want.At
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("the record says\n%+v, not\n%+v", got, want)
	}
	st := r.Status().Ranges[0]
	if st.Gap == nil || st.Gap.To != 13 || st.Err != nil || !strings.Contains(st.LastError, "the changes from revision 7 to 12 cannot be read") {
		t.Errorf("status: %+v", st)
	}
	if counted, mismatches := r.counts.seen(); len(counted) != 1 || counted[0] != keyhook.GapCompacted || mismatches > 0 {
		t.Errorf("%d mismatches, gaps %v", mismatches, counted)
	}
	if log := r.logs.String(); !strings.Contains(log, "level=ERROR msg=\"a gap") || !strings.Contains(log, "level=WARN msg=\"a gap is repaired") {
		t.Errorf("log:\n%s", log)
	}
}

// A synthetic put has the id of the change itself, which may have been sent before
// a crash; a synthetic delete has one of its own, not that of the put before.
func TestSyntheticChangesHaveIDsOfTheirOwn(t *testing.T) {
	f := newFixture(t)
	l := aGap(t, f)
	begin(t, l, config(f.Client(), l, prefix("/a/")))
	events := l.wait(t, 4)
	id := func(e *keyhook.Event) string { return keyhook.DeliveryID("/etcd", 0, e, "r", "s") }
	if natural := (&keyhook.Event{Key: []byte("/a/old"), Revision: 8}); id(events[3]) != id(natural) {
		t.Errorf("the put has the id %s, not %s", id(events[3]), id(natural))
	}
	if put := (&keyhook.Event{Key: []byte("/a/gone"), Revision: 3}); id(events[1]) == id(put) {
		t.Error("the delete has the id of the put before")
	}
}

func TestAHaltedRangeIsResumedByCommand(t *testing.T) {
	f := newFixture(t)
	l := aGap(t, f)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
	if e := r.awaitError(Compacted); !strings.Contains(e.Hint, "keyhook audit --repair") {
		t.Fatal(e.Hint)
	}
	if got := r.Resume(); len(got) != 1 || !got[0].Equal(prefix("/a/")) {
		t.Fatalf("resumed: %v", got)
	}
	r.awaitReady()
	if n := len(l.wait(t, 4)); n != 4 {
		t.Fatalf("%d changes", n)
	}
	if counted, _ := r.counts.seen(); len(counted) != 1 {
		t.Errorf("counted %v", counted)
	}
	if got := r.Resume(); len(got) != 0 {
		t.Fatalf("resumed, though nothing is halted: %v", got)
	}
}

// beforeHead is an etcd to which something happens before its revision is read, from
// some time on.
type beforeHead struct {
	history
	when   func() bool
	happen func()
}

func (b *beforeHead) head(ctx context.Context, r keyhook.Range) (head, error) {
	if b.when() {
		b.happen()
	}
	return b.history.head(ctx, r)
}

// A change is missing in what etcd sent. The range is compared where it stands, so
// that nothing behind it is lost.
func TestALostChangeIsFoundAndRepaired(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	f.put("/a/k", "1") // 2
	f.put("/a/l", "1") // 3
	cfg := config(f.Client(), l, prefix("/a/"))
	cfg.Identity.ClusterID = clusterOf(t, f)
	r := begin(t, l, cfg)
	r.awaitReady()
	r.stop()
	// The position moves past changes that were never admitted.
	f.put("/a/l", "2") // 4: lost, and the last of its key
	f.put("/a/k", "2") // 5: lost
	st := l.states(t)[0]
	st.Position, st.Anchor = keyhook.After(5), nil
	if err := l.mem.Commit(t.Context(), &checkpoint.Commit{Sequence: l.sequence + 1, Ranges: []checkpoint.RangeState{st}}); err != nil {
		t.Fatal(err)
	}
	f.put("/a/k", "3") // 6: does not follow
	l = newLedger(l.mem)
	cfg.Mirror, cfg.Consumer, cfg.States = l.mem, l, l.states(t)
	cfg.States[0].Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: []byte("/a/k"), Revision: 5, ValueHash: xxhash.Sum64String("2")}
	r = prepared(t, l, cfg)
	r.etcd = &beforeHead{history: r.etcd, happen: sync.OnceFunc(func() {
		f.put("/a/k", "4")
		f.put("/a/k", "5")
	}), when: func() bool { return len(l.admitted()) > 0 }}
	r.start()
	equal(t, l.wait(t, 4),
		"6 PUT /a/k=3 v3 c2 prev=1@2 last=1@2",
		"4 PUT /a/l=2 v2 c3 synthetic prev=1@3 last=1@3",
		"7 PUT /a/k=4 v4 c2 prev=3@6 last=3@6",
		"8 PUT /a/k=5 v5 c2 prev=4@7 last=4@7",
	)
	r.awaitReady()
	if g := l.repaired(); len(g) != 1 || g[0].Reason != keyhook.GapDiverged || g[0].Changed != 1 {
		t.Fatalf("gaps: %+v", g)
	}
	st = l.states(t)[0]
	if n := r.Status().Ranges[0].Mismatches; n != 1 || st.Epoch != 1 {
		t.Fatalf("%d mismatches, epoch %d", n, st.Epoch)
	}
}
