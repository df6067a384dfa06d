package watch

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
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

// interposed is an etcd to which something happens before some requests of a
// repair.
type interposed struct {
	history
	mu     sync.Mutex
	calls  int
	before func(call int)
}

func (i *interposed) happen() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++
	i.before(i.calls)
}

func (i *interposed) page(ctx context.Context, r keyhook.Range, rev int64, limit, maxBytes int, keysOnly bool) (page, error) {
	if rev != 1 { // not a look at the compaction
		i.happen()
	}
	return i.history.page(ctx, r, rev, limit, maxBytes, keysOnly)
}

func (i *interposed) values(ctx context.Context, keys [][]byte, rev int64, maxBytes int) ([]*mvccpb.KeyValue, error) {
	i.happen()
	return i.history.values(ctx, keys, rev, maxBytes)
}

// interpose runs a watcher on l as begin does.
func interpose(t *testing.T, f *fixture, l *ledger, cfg Config, before func(call int)) *run {
	t.Helper()
	r := &run{t: t, ledger: l, counts: new(counts), logs: new(logs), done: make(chan error, 1)}
	cfg.States, cfg.Identity, cfg.Observer = l.states(t), l.identity(t), r.counts
	cfg.Identity.ClusterID = clusterOf(t, f)
	cfg.Logger = r.logs.logger()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r.Watcher = newWatcher(cfg, &interposed{history: newEtcd(cfg.Client, cfg.RequestTimeout), before: before})
	r.start()
	return r
}

// Whatever happens while a gap is repaired, at any point: what was read before it
// and the changes that were told make what etcd holds.
func TestARepairSurvivesCrashesAndCompactionsAtAnyPoint(t *testing.T) {
	for _, rolledBack := range []bool{false, true} {
		for _, crash := range []int{0, 1, 3, 6} {
			for _, disturb := range []int{0, 1, 2} {
				name := fmt.Sprintf("crash %d, disturbance %d, rolled back %v", crash, disturb, rolledBack)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					aDisturbedRepair(t, rolledBack, crash, disturb)
				})
			}
		}
	}
}

func aDisturbedRepair(t *testing.T, rolledBack bool, crash, disturb int) {
	f := newFixture(t)
	for i := range 12 {
		f.put(fmt.Sprintf("/a/%02d", i), "old")
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	r.stop()
	held := heldBy(t, l)
	if rolledBack {
		f.Wipe()
		f.reconnect()
		for i := range 20 {
			f.put("/b/x", fmt.Sprint(i))
		}
		f.put("/a/03", "old")
	}
	for _, k := range []string{"/a/00", "/a/05", "/a/11", "/a/04x", "/a/99"} {
		f.put(k, "new")
	}
	f.del("/a/01")
	f.del("/a/07")
	f.del("/a/08")
	f.put("/a/08", "again")
	f.compact(f.put("/b/x", "1"))

	var told []*keyhook.Event
	for left := crash; ; left += 4 {
		l = newLedger(l.mem)
		cfg := config(f.Client(), l, prefix("/a/"))
		cfg.BatchEvents, cfg.PageKeys = 1, 3
		cfg.Consumer = &crashAt{ledger: l, left: left}
		r = interpose(t, f, l, cfg, func(call int) {
			if disturb == 0 || call%(disturb+1) != 0 || call > 12 {
				return
			}
			f.put("/a/10", fmt.Sprint("call ", call))
			f.put("/a/03", "x")
			f.del("/a/03")
			if call%4 == 0 {
				f.del("/a/05")
			}
			f.compact(f.put("/b/x", fmt.Sprint(call)))
		})
		ready := r.readyOrCrashed(0) && r.readyOrCrashed(f.put("/b/end", "1"))
		if ready {
			r.stop()
		}
		told = append(told, l.admitted()...)
		if ready || t.Failed() {
			break
		}
	}
	checkTold(t, f, held, told)
}

// readyOrCrashed waits until the watcher is ready at revision rev, or has ended
// with its consumer.
func (r *run) readyOrCrashed(rev int64) (ready bool) {
	r.t.Helper()
	timeout, tick := time.NewTimer(patience), time.NewTicker(2*time.Millisecond)
	defer timeout.Stop()
	defer tick.Stop()
	for {
		if st := r.Status(); st.Ready && st.Ranges[0].Position.Revision() >= rev {
			return true
		}
		select {
		case <-tick.C:
		case err := <-r.done:
			if err == nil || !strings.Contains(err.Error(), "crashed") {
				r.t.Fatalf("Run returned %v", err)
			}
			r.cancel()
			r.cancel = nil
			return false
		case <-timeout.C:
			r.t.Fatalf("neither ready nor crashed: %+v\n%s", r.Status(), r.logs)
		}
	}
}

// heldBy is what the mirror holds of live keys.
func heldBy(t *testing.T, l *ledger) map[string]string {
	t.Helper()
	held := make(map[string]string)
	for e, err := range l.mem.Entries(t.Context(), 0, keyhook.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !e.Deleted {
			held[string(e.Key)] = fmt.Sprintf("%s v%d c%d @%d", e.Value, e.Version, e.CreateRevision, e.Revision)
		}
	}
	return held
}

// checkTold applies the changes that were told to what was held before.
func checkTold(t *testing.T, f *fixture, held map[string]string, told []*keyhook.Event) {
	t.Helper()
	got := maps.Clone(held)
	for _, e := range told {
		if e.Type == keyhook.Delete {
			delete(got, string(e.Key))
			continue
		}
		got[string(e.Key)] = fmt.Sprintf("%s v%d c%d @%d", e.Value, e.Version, e.CreateRevision, e.Revision)
	}
	resp, err := f.kv.Get(t.Context(), "/a/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for _, kv := range resp.Kvs {
		want[string(kv.Key)] = fmt.Sprintf("%s v%d c%d @%d", kv.Value, kv.Version, kv.CreateRevision, kv.ModRevision)
	}
	if !maps.Equal(got, want) {
		t.Errorf("what was told makes\n%v, etcd holds\n%v\nheld before: %v\ntold:%s", got, want, held, brief(told))
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
	l = newLedger(l.mem)
	r = begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) {
		c.States[0].Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: []byte("/a/k"), Revision: 5, ValueHash: xxhash.Sum64String("2")}
	})
	f.put("/a/k", "3") // 6: does not follow
	l.wait(t, 2)
	f.put("/a/k", "4")
	equal(t, l.wait(t, 3),
		"6 PUT /a/k=3 v3 c2 prev=1@2 last=1@2",
		"4 PUT /a/l=2 v2 c3 synthetic prev=1@3 last=1@3",
		"7 PUT /a/k=4 v4 c2 prev=3@6 last=3@6",
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
