package watch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// hourly is how the tests of this file switch off audits that nobody asked for.
func hourly(c *Config) { c.AuditInterval = 24 * time.Hour }

// forget makes the mirror of l hold something else of keys, as if changes had been
// lost without a trace.
func forget(t *testing.T, l *ledger, changes ...checkpoint.MirrorChange) *ledger {
	t.Helper()
	c := &checkpoint.Commit{Sequence: l.sequence + 1, Mirror: changes}
	if err := l.mem.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return newLedger(l.mem)
}

// aLoss is a checkpoint of /a/ in which three keys are not as in etcd.
func aLoss(t *testing.T, f *fixture) *ledger {
	t.Helper()
	for i := range 20 {
		f.put(fmt.Sprintf("/a/%02d", i), "1") // 2 to 21
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	r.stop()
	entry := func(value string, rev int64) *checkpoint.Entry {
		return &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: []byte(value), Revision: rev, CreateRevision: rev, Version: 1}}
	}
	return forget(t, l,
		checkpoint.MirrorChange{Key: []byte("/a/03"), Entry: entry("another", 5)}, // the same revision
		checkpoint.MirrorChange{Key: []byte("/a/07")},
		checkpoint.MirrorChange{Key: []byte("/a/gone"), Entry: entry("1", 20)},
	)
}

func TestAnAuditFindsWhatWasLost(t *testing.T) {
	f := newFixture(t)
	l := aLoss(t, f)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting, hourly)
	r.awaitReady()
	told := 0
	reports, err := r.Audit(t.Context(), false, func(n int) { told = n })
	if err != nil || len(reports) != 1 {
		t.Fatal(reports, err)
	}
	a := reports[0]
	if a.Err != nil || a.Keys != 20 || told != 20 || a.Differing != 3 || a.Repaired {
		t.Fatalf("%+v, told of %d keys", a, told)
	}
	var got []string
	for _, d := range a.Differences {
		got = append(got, fmt.Sprintf("%s %d %d", d.Key, d.Known, d.Held))
	}
	if fmt.Sprint(got) != "[/a/03 5 5 /a/07 0 9 /a/gone 20 0]" {
		t.Fatal(got)
	}
	if st := r.Status().Ranges[0]; st.Audit == nil || !strings.Contains(st.LastError, "3 keys differ") || len(l.admitted()) > 0 {
		t.Fatalf("%+v", st)
	}
	r.counts.do(func() {
		if r.counts.audited != 20 || r.counts.differing != 3 {
			t.Errorf("counted %d keys, %d differences", r.counts.audited, r.counts.differing)
		}
	})

	reports, err = r.Audit(t.Context(), true, nil)
	if err != nil || len(reports) != 1 || !reports[0].Repaired {
		t.Fatal(reports, err)
	}
	equal(t, l.wait(t, 3),
		"5 PUT /a/03=1 v1 c5 synthetic prev=another@5 last=another@5",
		"9 PUT /a/07=1 v1 c9 synthetic",
		"20 DELETE /a/gone#-1 synthetic prev=1@20 last=1@20",
	)
	r.await("ready again", func(st Status) bool { return st.Ready && st.Ranges[0].Gap != nil })
	reports, err = r.Audit(t.Context(), false, nil)
	if err != nil || reports[0].Differing != 0 || reports[0].Err != nil || reports[0].Keys != 20 {
		t.Fatal(reports[0], err)
	}
	if g := l.repaired(); len(g) != 1 || g[0].Reason != keyhook.GapDiverged || g[0].Created != 1 || g[0].Changed != 1 || g[0].Deleted != 1 {
		t.Fatalf("gaps: %+v", g)
	}
}

func TestAnAuditRepairsByItself(t *testing.T) {
	f := newFixture(t)
	l := aLoss(t, f)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.AuditInterval, c.AuditRate = 60*time.Millisecond, 1000 })
	l.wait(t, 3)
	r.await("ready again", func(st Status) bool { return st.Ready && st.Ranges[0].Gap != nil })
	if log := r.logs.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "3 keys differ") || strings.Contains(log, "another") {
		t.Fatal(log)
	}
}

// The last change is the same in both histories, so that only values tell them
// apart. A restart of etcd is a reason to look.
func TestAnAuditFollowsAnElection(t *testing.T) {
	f := newFixture(t)
	f.put("/a/k", "other")
	f.put("/a/l", "1")
	saved := f.Save()
	f.Wipe()
	f.reconnect()
	f.put("/a/k", "1")
	f.put("/a/l", "1")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.AuditInterval = 6 * time.Hour })
	r.awaitReady()
	f.Restore(saved)
	equal(t, l.wait(t, 1), "2 PUT /a/k=other v1 c2 synthetic prev=1@2 last=1@2")
}

// Whatever is written meanwhile, durable or not, an audit sees no difference where
// there is none.
func TestAnAuditIsExactWhileChangesCome(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	l.setManual(true)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), hourly)
	r.awaitReady()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f.put(fmt.Sprintf("/a/%03d", i%150), fmt.Sprint(i))
			if i%3 == 0 {
				f.del(fmt.Sprintf("/a/%03d", (i*7)%150))
			}
			if i%50 == 0 {
				if err := l.Flush(f.t.Context()); err != nil {
					f.t.Error(err)
				}
			}
		}
	}()
	for range 10 {
		reports, err := r.Audit(t.Context(), false, nil)
		if err != nil || reports[0].Err != nil || reports[0].Differing != 0 {
			t.Fatalf("%+v, %v", reports, err)
		}
	}
	close(stop)
	<-stopped
}

func TestAnAuditOfAHaltedRangeResumesIt(t *testing.T) {
	f := newFixture(t)
	l := aGap(t, f)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), halting, hourly)
	if e := r.awaitError(Compacted); !e.Halts() {
		t.Fatal(e)
	}
	reports, err := r.Audit(t.Context(), true, nil)
	if err != nil || len(reports) != 1 || !reports[0].Repaired {
		t.Fatalf("%+v, %v", reports, err)
	}
	r.awaitReady()
	l.wait(t, 4)
}
