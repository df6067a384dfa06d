package watch

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
)

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

// hunted is an etcd that compacts the revision of a listing as soon as its first
// page was read.
type hunted struct {
	history
	f    *fixture
	last int64
}

func (h *hunted) page(ctx context.Context, r keyhook.Range, rev int64, limit, maxBytes int, keysOnly bool) (page, error) {
	if rev == h.last {
		h.f.compact(h.f.put("/b/x", "1"))
	}
	h.last = rev
	return h.history.page(ctx, r, rev, limit, maxBytes, keysOnly)
}

// A repair that etcd's compactions always overtake compares more at once, until a
// single page is enough.
func TestARepairWinsAgainstCompactionsThatNeverEnd(t *testing.T) {
	const keys = 60
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	cfg := config(f.Client(), l, prefix("/a/"))
	r := begin(t, l, cfg)
	r.awaitReady()
	r.stop()
	for i := range keys {
		f.put(fmt.Sprintf("/a/%02d", i), "1")
	}
	f.compact(f.put("/b/x", "0"))
	l = newLedger(l.mem)
	cfg = config(f.Client(), l, prefix("/a/"))
	cfg.States, cfg.PageKeys = l.states(t), 3
	r = prepared(t, l, cfg)
	r.etcd = &hunted{history: r.etcd, f: f}
	r.start()
	r.awaitReady()
	if n := len(l.admitted()); n != keys {
		t.Fatalf("%d changes, not %d", n, keys)
	}
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
	var gaps []*keyhook.Gap
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
		told, gaps = append(told, l.admitted()...), append(gaps, l.repaired()...)
		if ready || t.Failed() {
			break
		}
		if st := l.states(t)[0]; st.Repair != nil && st.Position.Next != st.Repair.From {
			t.Errorf("in the middle of the repair from revision %d the position is %s", st.Repair.From, st.Position)
		}
		// Of what was compared already: it is to be read, not to be compared again.
		f.put("/a/00", fmt.Sprint("after a crash at ", left))
		f.del("/a/02")
	}
	checkTold(t, f, held, told)
	// A change that is left out may be found later, by the look at what history it is.
	if len(gaps) == 0 || disturb == 0 && len(gaps) > 1 {
		t.Errorf("%d gaps", len(gaps))
	}
	for i, g := range gaps {
		if g.Reason != keyhook.GapCompacted && !rolledBack {
			t.Errorf("gap %d: %+v", i, g)
		}
	}
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
