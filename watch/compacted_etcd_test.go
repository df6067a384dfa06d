package watch

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// etcd creates the watch of a compacted revision, and cancels it later: the range
// was never ready. Position 3 asks for revision 4 next.
func TestReadyIsNeverSaidOfHistoryThatIsCompacted(t *testing.T) {
	for _, c := range []struct {
		name      string
		key       string // that changes while nobody watches
		compacted int64
		next      keyhook.Position
		lost      bool
	}{
		{"before what was read", "/a/k", 2, keyhook.After(3), false},
		{"at the last revision that was read", "/a/k", 3, keyhook.After(3), false},
		{"at the next revision, which can still be watched", "/a/k", 4, keyhook.After(3), false},
		{"at the next revision, in an idle range", "/b/k", 4, keyhook.After(3), false},
		{"past the next revision", "/a/k", 5, keyhook.After(3), true},
		{"past the next revision, in an idle range", "/b/k", 5, keyhook.After(3), true},
		{"at the current revision", "/a/k", 8, keyhook.After(3), true},
		{"at a revision that was read in part", "/a/k", 4, keyhook.Position{Next: 4, Admitted: 1}, false},
		{"past a revision that was read in part", "/a/k", 5, keyhook.Position{Next: 4, Admitted: 1}, true},
		{"with nothing to come", "/a/k", 8, keyhook.After(8), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.put("/a/k", "1") // 2
			f.put("/a/k", "2") // 3
			for range 5 {
				f.put(c.key, "x") // 4 to 8
			}
			at, err := f.kv.Get(t.Context(), "/a/k", clientv3.WithRev(c.next.Revision()))
			if err != nil {
				t.Fatal(err)
			}
			st := checkpoint.RangeState{Range: prefix("/a/"), Position: c.next, Anchor: newestOf(nil, at.Kvs, c.next.Next)}
			f.compact(c.compacted)
			l := newLedger(checkpointtest.NewMemory())
			r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting, func(cfg *Config) {
				cfg.States = []checkpoint.RangeState{st}
				cfg.ProgressInterval, cfg.RecheckInterval = time.Hour, time.Hour // nobody is to depend on them
			})
			if c.lost {
				if e := r.awaitError(Compacted); !e.Halts() {
					t.Error(e)
				}
			} else {
				r.awaitReady()
			}
			r.stop()
			if said := strings.Contains(r.logs.String(), "watching a range"); said == c.lost {
				t.Fatalf("ready: %v, lost: %v\n%s", said, c.lost, r.logs)
			}
		})
	}
}

func TestAPositionRightBeforeTheCompactedRevisionGoesOn(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/k", "1")
	l.wait(t, 1)
	r.stop()
	f.compact(f.put("/a/k", "2"))
	l = newLedger(l.mem)
	begin(t, l, config(f.Client(), l, prefix("/a/")))
	equal(t, l.wait(t, 1), "3 PUT /a/k=2 v2 c2 prev=1@2 last=1@2")
}
