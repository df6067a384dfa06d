package watch

import (
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
)

// BenchmarkCatchUp reads a backlog, and has a plain watcher of etcd's client read
// the same one in the same run.
func BenchmarkCatchUp(b *testing.B) {
	for _, c := range []struct {
		name    string
		backlog int
		every   int // of so many revisions one is of the range
	}{{"20k", 20_000, 1}, {"20k-sparse", 20_000, 20}, {"100k", 100_000, 1}, {"100k-sparse", 100_000, 20}} {
		b.Run(c.name, func(b *testing.B) {
			s := etcdtest.Start(b)
			first := fill(b, s.Client(), c.backlog, c.every)
			matching := c.backlog / c.every
			for b.Loop() {
				plain := plainWatch(b, s.Client(), first, matching)
				ours := caughtUp(b, s.Client(), first, matching)
				b.ReportMetric(float64(c.backlog)/plain.Seconds(), "plain-revs/s")
				b.ReportMetric(float64(c.backlog)/ours.Seconds(), "revs/s")
				b.ReportMetric(plain.Seconds()/ours.Seconds(), "ratio")
			}
		})
	}
}

// fill writes n revisions, of which every so manieth is of the range /a/, and
// returns the first.
func fill(b *testing.B, c *clientv3.Client, n, every int) int64 {
	b.Helper()
	const writers = 64
	resp, err := c.Get(b.Context(), "any")
	if err != nil {
		b.Fatal(err)
	}
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := w; i < n; i += writers {
				key := fmt.Sprintf("/b/%d", i%1000)
				if i%every == 0 {
					key = fmt.Sprintf("/a/%d", i%1000)
				}
				if _, err := c.Put(b.Context(), key, fmt.Sprintf("%0200d", i)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	return resp.Header.Revision + 1
}

func plainWatch(b *testing.B, c *clientv3.Client, first int64, n int) time.Duration {
	b.Helper()
	began := time.Now()
	for resp := range c.Watch(b.Context(), "/a/", clientv3.WithPrefix(), clientv3.WithRev(first)) {
		if resp.Err() != nil {
			b.Fatal(resp.Err())
		}
		if n -= len(resp.Events); n <= 0 {
			return time.Since(began)
		}
	}
	b.Fatal("the watch ended")
	return 0
}

func caughtUp(b *testing.B, c *clientv3.Client, first int64, n int) time.Duration {
	b.Helper()
	l := newLedger(checkpointtest.NewMemory())
	cfg := config(c, l, prefix("/a/"))
	cfg.States = []checkpoint.RangeState{{Range: prefix("/a/"), Position: keyhook.Position{Next: first}}}
	cfg.HaltOnGap = true // the mirror is empty
	r := prepared(b, l, cfg)
	began := time.Now()
	r.start()
	l.wait(b, n)
	took := time.Since(began)
	r.stop()
	return took
}
