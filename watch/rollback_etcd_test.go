package watch

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
)

func TestRolledBackHistoryIsRepairedInANewEpoch(t *testing.T) {
	for _, c := range []struct {
		name  string
		after func(f *fixture) // what is written after the restore, at revision 4
		want  []string
		from  int64
	}{
		{"with fewer revisions", func(*fixture) {}, []string{
			"4 DELETE /a/l#-1 synthetic prev=1@4 last=1@4", "3 PUT /a/k=1 v1 c3 synthetic prev=2@5 last=2@5",
		}, 6},
		{"with another value under the same revision", func(f *fixture) {
			f.put("/a/l", "1")
			f.put("/a/k", "another")
		}, []string{"5 PUT /a/k=another v2 c3 synthetic prev=2@5 last=2@5"}, 6},
		{"and written past the position", func(f *fixture) {
			for i := range 5 {
				f.put("/a/m", fmt.Sprint(i))
			}
		}, []string{
			"3 PUT /a/k=1 v1 c3 synthetic prev=2@5 last=2@5",
			"4 DELETE /a/l#-1 synthetic prev=1@4 last=1@4",
			"8 PUT /a/m=4 v5 c4 synthetic",
		}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.put("/a/j", "1") // 2
			f.put("/a/k", "1") // 3
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/")))
			r.awaitReady()
			r.stop()
			saved := f.Save()
			f.reconnect()
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/")))
			f.put("/a/l", "1") // 4
			f.put("/a/k", "2") // 5
			l.wait(t, 2)
			r.stop()

			f.Restore(saved)
			f.reconnect()
			c.after(f)
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/")))
			r.awaitReady()
			rev := f.put("/a/z", "1")
			events := l.wait(t, len(c.want)+1)
			want := append(slices.Clone(c.want), fmt.Sprintf("%d PUT /a/z=1 v1 c%d", rev, rev))
			slices.Sort(want)
			got := make([]string, 0, len(events))
			for i, e := range events {
				got = append(got, describe(e))
				if l.epochs[i] != 1 {
					t.Errorf("%s is of epoch %d", got[i], l.epochs[i])
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
			g := l.repaired()
			if len(g) != 1 || g[0].Reason != keyhook.GapRolledBack || g[0].From != c.from || g[0].Epoch != 1 {
				t.Fatalf("gaps: %+v", g)
			}
			if id := l.identity(t); id.Epoch != 1 {
				t.Fatalf("the identity is %+v", id)
			}
			r.stop()
			if st := l.states(t)[0]; st.Epoch != 1 || st.Repair != nil {
				t.Fatalf("the range is %+v", st)
			}
			// Once is enough.
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/")))
			r.awaitReady()
			if len(l.repaired()) > 0 || len(l.admitted()) > 0 {
				t.Fatalf("again: %s", brief(l.admitted()))
			}
		})
	}
}

// The position is compacted, so that nothing shows at first that history was
// rolled back, too: a key that was written before the gap, and not read.
func TestARollbackThatShowsInAGapIsRepairedAsOne(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "1") // 2
	f.put("/a/l", "1") // 3
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/k", "2") // 4
	l.wait(t, 1)
	r.stop()
	f.Wipe()
	f.reconnect()
	f.put("/a/l", "other") // 2
	f.put("/a/m", "1")     // 3
	f.put("/a/k", "2")     // 4
	for range 4 {
		f.put("/b/x", "1")
	}
	f.compact(8)
	l = newLedger(l.mem)
	r = begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	equal(t, l.wait(t, 3),
		"4 PUT /a/k=2 v1 c4 synthetic last=2@4",
		"2 PUT /a/l=other v1 c2 synthetic last=1@3",
		"3 PUT /a/m=1 v1 c3 synthetic",
	)
	if g := l.repaired(); len(g) != 1 || g[0].Reason != keyhook.GapRolledBack || g[0].Epoch != 1 {
		t.Fatalf("gaps: %+v", g)
	}
	if counted, _ := r.counts.seen(); len(counted) != 1 {
		t.Errorf("counted %v", counted)
	}
}

func TestAClusterThatTookThePlaceOfAnotherIsAcceptedByCommand(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "1")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/"), prefix("/b/")))
	r.awaitReady()
	r.stop()

	other := newFixture(t, etcdtest.WithToken("other"))
	other.put("/b/k", "1")
	l = newLedger(l.mem)
	known := clusterOf(t, f)
	r = begin(t, l, config(other.Client(), l, prefix("/a/"), prefix("/b/")), func(c *Config) { c.Identity.ClusterID = known })
	r.await("halted", func(st Status) bool {
		return len(st.Ranges) == 2 && !slices.ContainsFunc(st.Ranges, func(s RangeStatus) bool { return !s.Halted || s.Err.Kind != WrongCluster })
	})
	if n := len(r.Resume()); n != 2 {
		t.Fatalf("%d ranges resumed", n)
	}
	r.awaitReady()
	got := l.wait(t, 2)
	slices.SortFunc(got, func(a, b *keyhook.Event) int { return bytes.Compare(a.Key, b.Key) })
	equal(t, got, "2 DELETE /a/k#-1 synthetic prev=1@2 last=1@2", "2 PUT /b/k=1 v1 c2 synthetic")
	if id := l.identity(t); id.Epoch != 1 || id.ClusterID != clusterOf(t, other) {
		t.Fatalf("the identity is %+v", id)
	}
}

// One range finds that history was rolled back. In the other one nothing shows,
// but it is compared as well: a key of it has another value under the revision
// that was read.
func TestARollbackIsLookedForInAllRanges(t *testing.T) {
	for _, c := range []struct {
		value string
		want  []string
	}{
		{"1", nil},
		{"other", []string{"3 PUT /b/k=other v1 c3 synthetic prev=1@3 last=1@3"}},
	} {
		t.Run("with the value "+c.value, func(t *testing.T) {
			f := newFixture(t)
			f.put("/a/k", "1")
			f.put("/b/k", "1")
			f.put("/b/l", "1") // the anchor
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/"), prefix("/b/")))
			r.awaitReady()
			r.stop()
			f.Wipe()
			f.reconnect()
			f.put("/a/k", "other")
			f.put("/b/k", c.value)
			f.put("/b/l", "1")
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, prefix("/a/"), prefix("/b/")))
			r.await("both are of the new epoch", func(st Status) bool {
				states := l.states(t)
				return st.Ready && states[0].Epoch == 1 && states[1].Epoch == 1
			})
			events := slices.DeleteFunc(l.admitted(), func(e *keyhook.Event) bool { return !prefix("/b/").Contains(e.Key) })
			equal(t, events, c.want...)
			if n := len(l.repaired()); n != 1+len(c.want) {
				t.Fatalf("%d gaps", n)
			}
		})
	}
}
