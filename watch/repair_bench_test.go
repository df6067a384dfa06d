package watch

import (
	"context"
	"fmt"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/disk"
	"keyhook/internal/etcdtest"
)

// BenchmarkRepair compares a range of 300,000 keys of 200 B, of which 3% changed,
// while somebody writes elsewhere. With the server in a process of its own
// (KEYHOOK_TEST_ETCD_SERVER) the memory is that of the repair alone.
func BenchmarkRepair(b *testing.B) {
	for _, keys := range []int{300_000} {
		for _, whole := range []bool{false, true} {
			name := fmt.Sprintf("%dk-compacted", keys/1000)
			if whole {
				name = fmt.Sprintf("%dk-rolled-back", keys/1000)
			}
			b.Run(name, func(b *testing.B) { benchRepair(b, keys, whole) })
		}
	}
}

func benchRepair(b *testing.B, keys int, whole bool) {
	s := etcdtest.Start(b)
	c := s.Client()
	fillKeys(b, c, keys)
	store, err := disk.Open(disk.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	o := &owner{store: store}
	cfg := Config{Client: c, Ranges: []keyhook.Range{prefix("/a/")}, Mirror: store, Consumer: o, AuditInterval: 24 * time.Hour}
	seed := time.Now()
	o.until(b, cfg, func(w *Watcher) bool { return w.Status().Ready })
	b.ReportMetric(time.Since(seed).Seconds(), "s-seed")

	var rev int64
	for i := 0; i < keys; i += 33 {
		resp, err := c.Put(b.Context(), fmt.Sprintf("/a/%07d", i), "changed")
		if err != nil {
			b.Fatal(err)
		}
		rev = resp.Header.Revision
	}
	if _, err := c.Compact(b.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		quiet := writing(b, c, func() { wait(b.Context(), 2*time.Second) })
		before := heap()
		peak := uint64(0)
		var took time.Duration
		busy := writing(b, c, func() {
			began := time.Now()
			st := o.state(b)
			if whole {
				st.Anchor.ValueHash++ // not the change that was read
				st.Position = keyhook.After(rev)
				o.set(b, st)
			}
			o.until(b, cfg, func(w *Watcher) bool {
				peak = max(peak, heap())
				st := w.Status()
				return st.Ready && st.Ranges[0].Gap != nil
			})
			took = time.Since(began)
		})
		b.ReportMetric(took.Seconds(), "s-repair")
		b.ReportMetric(float64(peak-min(before, peak))/(1<<20), "MiB-peak")
		b.ReportMetric(quantile(quiet, .99).Seconds()*1000, "ms-put-p99-before")
		b.ReportMetric(quantile(busy, .99).Seconds()*1000, "ms-put-p99-meanwhile")
		b.ReportMetric(slices.Max(busy).Seconds()*1000, "ms-put-max-meanwhile")
	}
}

// fillKeys writes keys of /a/.
func fillKeys(b *testing.B, c *clientv3.Client, n int) {
	b.Helper()
	const inTxn = 100
	value := fmt.Sprintf("%0200d", 0)
	for i := 0; i < n; i += inTxn {
		ops := make([]clientv3.Op, 0, inTxn)
		for j := i; j < min(i+inTxn, n); j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/a/%07d", j), value))
		}
		if _, err := c.Txn(b.Context()).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// writing puts a key a thousand times a second while fn runs, and returns how long
// that took each time.
func writing(b *testing.B, c *clientv3.Client, fn func()) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var took []time.Duration
	var writer sync.WaitGroup
	writer.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
			began := time.Now()
			if _, err := c.Put(b.Context(), "/b/k", "x"); err != nil {
				b.Error(err)
				return
			}
			took = append(took, time.Since(began))
		}
	})
	fn()
	cancel()
	writer.Wait()
	return took
}

func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[int(float64(len(all)-1)*q)]
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// owner is a consumer that commits each batch to disk.
type owner struct {
	store *disk.Store

	mu       sync.Mutex
	sequence uint64
}

func (o *owner) commit(ctx context.Context, c *checkpoint.Commit) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.Sequence = o.sequence + 1
	if err := o.store.Commit(ctx, c); err != nil {
		return err
	}
	o.sequence++
	return nil
}

func (o *owner) Admit(ctx context.Context, b *Batch) error {
	err := o.commit(ctx, &checkpoint.Commit{Ranges: b.States, DropRanges: b.Drop, Mirror: b.Mirror})
	if err == nil && b.Durable != nil {
		b.Durable()
	}
	return err
}

func (o *owner) Flush(context.Context) error { return nil }

func (o *owner) Identify(ctx context.Context, id checkpoint.Identity) error {
	return o.commit(ctx, &checkpoint.Commit{Identity: &id})
}

func (o *owner) state(b *testing.B) checkpoint.RangeState {
	b.Helper()
	st, err := o.store.Load(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	return st.Ranges[0]
}

func (o *owner) set(b *testing.B, st checkpoint.RangeState) {
	b.Helper()
	if err := o.commit(b.Context(), &checkpoint.Commit{Ranges: []checkpoint.RangeState{st}}); err != nil {
		b.Fatal(err)
	}
}

// until runs a watcher on the checkpoint until done.
func (o *owner) until(b *testing.B, cfg Config, done func(*Watcher) bool) {
	b.Helper()
	st, err := o.store.Load(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	cfg.States = st.Ranges
	cfg.Identity = checkpoint.Identity{ClusterID: st.ClusterID, Epoch: st.Epoch}
	if cfg.Identity.ClusterID == 0 {
		if cfg.Identity.ClusterID, err = ClusterID(b.Context(), cfg.Client, cfg.Ranges); err != nil {
			b.Fatal(err)
		}
	}
	w, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for tick := time.NewTicker(5 * time.Millisecond); !done(w); <-tick.C {
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
