package watch

import (
	"context"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// An etcd that lost its data and was started again with the same flags has the
// same cluster id. What is written to it then overtakes the position.
func TestAnEtcdThatWasSetUpAnewHaltsTheRange(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after []string // puts and deletions, from revision 2
		keys          int      // of them before the range is watched
		want          string
	}{
		{
			"the range had keys, and nothing changed while it was watched",
			[]string{"/a/k=1", "/a/l=2", "/b/x=1"}, []string{"/b/x=1", "/a/k=1", "/a/l=2", "/a/m=3"}, 3, "the change of revision 3",
		},
		{
			"the newest key was there, but later",
			[]string{"/a/k=1", "/b/x=1"}, []string{"/b/x=1", "/a/k=1", "/b/x=2"}, 2, "the change of revision 2",
		},
		{
			"the range was empty",
			[]string{"/b/x=1", "/b/x=2", "/b/x=3"}, []string{"/b/x=1", "/a/k=1", "/b/x=3", "/b/x=4"}, 1, "a change of revision 3",
		},
		{
			"the last change came again, and others behind it",
			[]string{"/a/k=1", "/b/x=1", "/b/x=2"}, []string{"/a/k=1", "/a/l=1", "/b/x=1", "/b/x=2"}, 0, "a change of revision 3",
		},
		{
			"the last change came again, and was changed",
			[]string{"/a/k=1", "/b/x=1", "/b/x=2"}, []string{"/a/k=1", "/a/k=2", "/b/x=1", "/b/x=2"}, 0, "the change of revision 2",
		},
		{
			"the last change was a deletion, and the key is not there either",
			[]string{"/a/k=1", "/a/l=1", "/a/k"}, []string{"/a/m=1", "/b/x=1", "/b/x=2", "/b/x=3"}, 1, "the change of revision 3",
		},
		{
			"the last changes were deletions",
			[]string{"/a/k=1", "/a/l=1", "/a/k", "/a/l", "/b/x=1"}, []string{"/b/x=1", "/b/x=2", "/b/x=3", "/b/x=4", "/b/x=5", "/b/x=6"}, 1, "the change of revision 3",
		},
	} {
		for _, running := range []bool{false, true} {
			name := c.name + ", while keyhook was down"
			if running {
				name = c.name + ", while keyhook was running"
			}
			t.Run(name, func(t *testing.T) {
				f := newFixture(t)
				write := func(changes []string) (rev int64) {
					for _, kv := range changes {
						if key, value, put := strings.Cut(kv, "="); put {
							rev = f.put(key, value)
						} else {
							rev = f.del(key)
						}
					}
					return rev
				}
				write(c.before[:c.keys])
				l := newLedger(checkpointtest.NewMemory())
				r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
				r.awaitReady()
				write(c.before[c.keys:])
				r.awaitPosition(int64(len(c.before) + 1))
				if !running {
					r.stop()
				}
				n := len(l.admitted())
				f.Wipe()
				f.reconnect()
				write(c.after)
				if !running {
					l = newLedger(l.mem)
					r = begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
					n = 0
				}
				st := r.await("halted with "+c.want, func(st Status) bool {
					if len(st.Ranges) == 0 {
						return false
					}
					e := st.Ranges[0].Err
					return e != nil && e.Kind == RolledBack && strings.Contains(e.Error(), c.want)
				})
				if e := st.Ranges[0].Err; !strings.Contains(e.Hint, "keyhook audit --repair") {
					t.Errorf("%v (%s)", e, e.Hint)
				}
				r.stop()
				if got := len(l.admitted()); got != n {
					t.Errorf("%d changes of another history were admitted", got-n)
				}
			})
		}
	}
}

// A history that goes on as it was is never taken for another one, wherever
// keyhook stopped in it.
func TestAHistoryThatGoesOnIsRecognised(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "1")
	f.put("/a/l", "1")
	l := newLedger(checkpointtest.NewMemory())
	steps := []func() int64{
		func() int64 { return 0 },
		func() int64 { return f.put("/b/x", "1") }, // progress alone
		func() int64 { return f.put("/a/k", "2") }, // a key that is older than the anchor
		func() int64 { return f.del("/a/k") },      // the anchor's key
		func() int64 { return f.put("/b/x", "2") }, // progress behind a delete
		func() int64 { return f.put("/a/k", "3") }, // a key that was gone
		func() int64 { return f.del("/a/", clientv3.WithPrefix()) },
		func() int64 { return f.put("/b/x", "3") },
		func() int64 {
			return f.txn(clientv3.OpPut("/a/y", "1"), clientv3.OpPut("/a/x", "1"), clientv3.OpPut("/b/x", "4"))
		},
		func() int64 { rev := f.put("/b/x", "5"); f.compact(rev); return rev },
		func() int64 { rev := f.put("/a/x", "2"); f.compact(rev); return rev },
	}
	for i, down := range steps {
		rev := down()
		for range 2 {
			l = newLedger(l.mem)
			r := begin(t, l, config(f.Client(), l, prefix("/a/")))
			r.awaitReady()
			r.awaitPosition(rev)
			f.Disconnect()
			f.reconnect()
			rev = f.put("/b/y", "x")
			r.awaitPosition(rev)
			r.stop()
			if gaps, mismatches := r.counts.seen(); len(gaps) > 0 || mismatches > 0 {
				t.Fatalf("step %d: gaps %v, %d mismatches", i, gaps, mismatches)
			}
		}
	}
}

// Parts of a range find their anchors in the mirror, and it is known of an empty
// part that it was empty.
func TestPartsOfARangeRecogniseTheirHistory(t *testing.T) {
	for name, c := range map[string]struct {
		want string
		rng  keyhook.Range
	}{
		"with the anchor's key": {"the change of revision 4", prefix("/a/3")},
		"with older keys":       {"the change of revision 3", prefix("/a/2")},
		"without any key":       {"a change of revision 5", prefix("/a/4")},
		"with newer keys, too":  {"the change of revision 4", keyhook.Range{Start: []byte("/a/2"), End: []byte("/a/5")}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.put("/a/1", "1")
			f.put("/a/2", "1")
			f.put("/a/3", "1")
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
			r.awaitReady()
			r.stop()
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, c.rng), halting)
			r.awaitReady()
			for range 5 {
				r.awaitPosition(f.put("/b/x", "1"))
			}
			r.stop()

			f.Wipe()
			f.reconnect()
			for _, key := range []string{"/a/3", "/a/2x", "/a/1", "/a/4", "/b/x", "/b/x", "/b/x", "/b/x", "/b/x"} {
				f.put(key, "1")
			}
			l = newLedger(l.mem)
			r = begin(t, l, config(f.Client(), l, c.rng), halting)
			if e := r.awaitError(RolledBack); !strings.Contains(e.Error(), c.want) {
				t.Fatal(e)
			}
		})
	}
}

// What the anchor does not show may still show in the changes themselves.
func TestChangesThatDoNotFollowTheMirrorAreToldLoudly(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "1")
	f.put("/a/l", "1")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting)
	r.awaitReady()
	f.Wipe()
	f.reconnect()
	f.put("/b/k", "1") // not /a/k
	f.put("/a/l", "1")
	f.put("/a/k", "2")
	f.put("/a/l", "2")
	r.ledger.wait(t, 2)
	st := r.await("told", func(st Status) bool { return st.Ranges[0].Mismatches == 1 }).Ranges[0]
	if !strings.Contains(st.LastError, "up to position 4, 1 changes do not follow") && !strings.Contains(st.LastError, "up to position 5, 1 changes do not follow") || st.LastErrorAt.IsZero() {
		t.Errorf("the last error is %q", st.LastError)
	}
	r.awaitReady() // it is a reason to look, not to stop
	if _, n := r.counts.seen(); n != 1 || !strings.Contains(r.logs.String(), `level=ERROR msg="changes do not follow`) {
		t.Errorf("%d mismatches counted, log:\n%s", n, r.logs)
	}
}

// Wherever a batch ends, the anchor is the newest change before its position, or
// of the revision before if the position lies inside of one.
func TestEveryPositionHasItsAnchor(t *testing.T) {
	for _, first := range []keyhook.Position{keyhook.After(1), {Next: 2, Admitted: 1}, {Next: 2, Admitted: 2}} {
		s := &script{streams: [][]any{{created, fragment(puts(2, 2)), fragment(puts(3)), puts(4, 4, 5, 7)}, {created, puts(8, 9)}}}
		seen := &anchors{}
		r := play(t, s, func(c *Config) {
			c.States[0].Position = first
			c.States[0].Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: []byte("k"), Revision: 1}
			c.BatchEvents = 1
			seen.Consumer, c.Consumer = c.Consumer, seen
		})
		r.ledger.wait(t, 7-first.Admitted)
		r.awaitPosition(7)
		r.stop()
		changed := map[int64]int64{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 5, 7: 7}
		for _, st := range seen.states {
			if st.Anchor == nil || st.Anchor.Revision != changed[st.Position.Revision()] {
				t.Errorf("at %s the anchor is %+v", st.Position, st.Anchor)
			}
		}
	}
}

// anchors keeps the states of batches.
type anchors struct {
	Consumer
	states []checkpoint.RangeState
}

func (a *anchors) Admit(ctx context.Context, b *Batch) error {
	a.states = append(a.states, b.States...)
	return a.Consumer.Admit(ctx, b)
}
