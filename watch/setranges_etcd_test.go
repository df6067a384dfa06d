package watch

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

func (r *run) setRanges(ranges ...keyhook.Range) {
	r.t.Helper()
	if err := r.SetRanges(ranges); err != nil {
		r.t.Fatal(err)
	}
}

func TestRangesInheritWhatTheyShareWhileRunning(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/"), prefix("/b/")))
	r.awaitReady()
	f.put("/a/1", "x")
	f.put("/a/2", "x")
	f.put("/b/1", "x")
	f.put("/c/1", "x")
	l.wait(t, 3)

	// /a/ shrinks, /b/ goes, /c/ comes.
	r.setRanges(prefix("/a/1"), prefix("/c/"))
	st := r.awaitReady()
	var names []string
	for _, s := range st.Ranges {
		names = append(names, s.Range.String())
	}
	if !slices.Equal(names, []string{"/a/1", "/c/"}) {
		t.Fatalf("watching %v", names)
	}
	f.put("/a/2", "y")
	f.put("/b/1", "y")
	f.put("/a/1", "y")
	f.put("/c/1", "y")
	got := l.wait(t, 5)[3:]
	slices.SortFunc(got, func(a, b *keyhook.Event) int { return bytes.Compare(a.Key, b.Key) })
	equal(t, got, "8 PUT /a/1=y v2 c2 prev=x@2 last=x@2", "9 PUT /c/1=y v2 c5 prev=x@5 last=x@5")
	for _, key := range []string{"/a/2", "/b/1"} {
		if e, err := l.mem.Lookup(t.Context(), 0, []byte(key)); err != nil || e != nil {
			t.Errorf("the mirror still holds %s: %+v, %v", key, e, err)
		}
	}

	// /a/ grows again: what is new begins anew, what is known goes on.
	r.setRanges(prefix("/a/"), prefix("/c/"))
	r.awaitReady()
	f.put("/a/1", "z")
	f.put("/a/2", "z")
	got = l.wait(t, 7)[5:]
	slices.SortFunc(got, func(a, b *keyhook.Event) int { return bytes.Compare(a.Key, b.Key) })
	equal(t, got, "10 PUT /a/1=z v3 c2 prev=y@8 last=y@8", "11 PUT /a/2=z v3 c3 prev=y@6 last=y@6")

	// Nothing is watched any more, and that is fine.
	r.setRanges()
	r.await("idle", func(st Status) bool { return st.Ready && len(st.Ranges) == 0 })
	if st := l.states(t); len(st) != 0 {
		t.Fatalf("durable: %+v", st)
	}
	if err := r.SetRanges([]keyhook.Range{{Start: []byte("b"), End: []byte("a")}}); err == nil {
		t.Fatal("a range without keys was taken")
	}
	if _, n := r.counts.seen(); n != 0 {
		t.Errorf("%d changes do not follow the mirror", n)
	}
}

// A checkpoint from the middle of a revision, and other ranges in the
// configuration: the revision is finished first.
func TestARevisionIsFinishedBeforeItsRangeIsDivided(t *testing.T) {
	f := newFixture(t)
	for i := range 6 {
		f.put(fmt.Sprintf("/a/%d", i), "1")
	}
	seeded := newLedger(checkpointtest.NewMemory())
	r := begin(t, seeded, config(f.Client(), seeded, prefix("/a/")))
	r.awaitReady()
	r.stop()
	rev := f.del("/a/", clientv3.WithPrefix())
	f.put("/a/1", "2")
	f.put("/a/4", "2")
	f.put("/a/5", "2")

	// Two of the six deletes were admitted, /a/0 and /a/1.
	st := seeded.states(t)[0]
	st.Position = keyhook.Position{Next: rev, Admitted: 2}
	gone := func(i int, weight uint64) checkpoint.MirrorChange {
		return checkpoint.MirrorChange{Key: fmt.Appendf(nil, "/a/%d", i), Entry: &checkpoint.Entry{
			KeyValue: keyhook.KeyValue{Value: []byte("1"), Revision: int64(i + 2), CreateRevision: int64(i + 2), Version: 1}, Deleted: true, Weight: weight,
		}}
	}
	l := newLedger(seeded.mem)
	st.Forgotten = 138
	if err := l.Admit(t.Context(), &Batch{Mirror: []checkpoint.MirrorChange{gone(0, 69), gone(1, 138)}, States: []checkpoint.RangeState{st}}); err != nil {
		t.Fatal(err)
	}
	r = begin(t, l, config(f.Client(), l, prefix("/a/1"), prefix("/a/4")))
	r.awaitReady()
	got := l.wait(t, 6)
	equal(t, got[:4],
		"8 DELETE /a/2 prev=1@4 last=1@4",
		"8 DELETE /a/3 prev=1@5 last=1@5",
		"8 DELETE /a/4 prev=1@6 last=1@6",
		"8 DELETE /a/5 prev=1@7 last=1@7",
	)
	rest := slices.DeleteFunc(slices.Clone(got[4:]), func(e *keyhook.Event) bool { return string(e.Key) == "/a/5" })
	slices.SortFunc(rest, func(a, b *keyhook.Event) int { return bytes.Compare(a.Key, b.Key) })
	equal(t, rest, "9 PUT /a/1=2 v1 c9 last=1@3", "10 PUT /a/4=2 v1 c10 last=1@6")
	if st := l.states(t); len(st) != 2 || st[0].Range.String() != "/a/1" || st[1].Range.String() != "/a/4" {
		t.Fatalf("durable: %+v", st)
	}
}

func TestAdjacentRangesThatStandTogetherBecomeOne(t *testing.T) {
	f := newFixture(t)
	f.put("/a/1", "1")
	f.put("/a/2", "1")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	r.stop()
	whole := l.states(t)[0]
	left := keyhook.Range{Start: whole.Range.Start, End: []byte("/a/2")}
	right := keyhook.Range{Start: []byte("/a/2"), End: whole.Range.End}
	parts := []checkpoint.RangeState{divide(whole, left), divide(whole, right)}
	if err := l.Admit(t.Context(), &Batch{Drop: []keyhook.Range{whole.Range}, States: parts}); err != nil {
		t.Fatal(err)
	}

	l = newLedger(l.mem)
	r = begin(t, l, config(f.Client(), l, prefix("/a/")))
	if st := r.awaitReady(); len(st.Ranges) != 1 || !st.Ranges[0].Range.Equal(whole.Range) {
		t.Fatalf("watching %+v", st.Ranges)
	}
	f.put("/a/2", "2")
	f.put("/a/1", "2")
	equal(t, l.wait(t, 2), "4 PUT /a/2=2 v2 c3 prev=1@3 last=1@3", "5 PUT /a/1=2 v2 c2 prev=1@2 last=1@2")
	if st := l.states(t); len(st) != 1 {
		t.Fatalf("durable: %+v", st)
	}
}
