package robustness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/load"
)

// Where the writers write. Only the first two are watched.
const (
	busy      = "/k/"
	quiet     = "/quiet/"
	elsewhere = "/elsewhere/"
)

// opLimit bounds one request of a writer, whatever state etcd is in. Whether it
// has taken effect then, only etcd's history knows.
const opLimit = 2 * time.Second

// traffic writes to etcd without an end and does not mind errors.
type traffic struct {
	client *clientv3.Client
	seed   uint64

	made   atomic.Int64 // requests that succeeded
	failed atomic.Int64
	wg     sync.WaitGroup
}

// start begins to write until ctx ends; wait waits until all writers are done.
func (w *traffic) start(ctx context.Context) {
	for n := range uint64(3) {
		w.wg.Go(func() { w.mix(ctx, n) })
	}
	w.wg.Go(func() { w.leases(ctx) })
	w.wg.Go(func() { w.directories(ctx) })
	w.wg.Go(func() { w.quietly(ctx) })
	w.wg.Go(func() { w.besides(ctx) })
}

func (w *traffic) wait() { w.wg.Wait() }

// each calls f again and again, no more often than every pause.
func (w *traffic) each(ctx context.Context, pause time.Duration, f func(ctx context.Context) error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		// A request that was begun is finished: an end is no trouble.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opLimit)
		if err := f(ctx); err != nil {
			w.failed.Add(1)
		} else {
			w.made.Add(1)
		}
		cancel()
	}
}

// mix makes transactions of all kinds on a few keys.
func (w *traffic) mix(ctx context.Context, n uint64) {
	rng := rand.New(rand.NewPCG(w.seed, n))
	mix := &load.Mix{Client: w.client, Seed: w.seed, Prefix: busy, Keys: 40}
	var lease clientv3.LeaseID
	w.each(ctx, 12*time.Millisecond, func(ctx context.Context) error {
		if lease == 0 {
			granted, err := w.client.Grant(ctx, 3600)
			if err != nil {
				return err
			}
			lease = granted.ID
		}
		_, err := mix.Step(ctx, rng, lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			lease = 0 // a restore has taken it back
		}
		return err
	})
}

// leases writes keys that go with a lease which nobody keeps alive.
func (w *traffic) leases(ctx context.Context) {
	n := 0
	w.each(ctx, 700*time.Millisecond, func(ctx context.Context) error {
		n++
		lease, err := w.client.Grant(ctx, 2)
		if err != nil {
			return err
		}
		ops := make([]clientv3.Op, 0, 10)
		for i := range 10 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sleased/%d/%d", busy, n%3, i), fmt.Sprint("lease ", n), clientv3.WithLease(lease.ID)))
		}
		return w.do(ctx, clientv3.OpTxn(nil, ops, nil))
	})
}

// directories fills a directory by several transactions and deletes it at once.
func (w *traffic) directories(ctx context.Context) {
	n := 0
	w.each(ctx, 150*time.Millisecond, func(ctx context.Context) error {
		n++
		if n%6 == 0 {
			return w.do(ctx, clientv3.OpDelete(busy+"dir/", clientv3.WithPrefix()))
		}
		ops := make([]clientv3.Op, 0, 15)
		for i := range 15 {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sdir/%02d", busy, (n*7+i)%50), fmt.Sprint("directory ", n)))
		}
		return w.do(ctx, clientv3.OpTxn(nil, ops, nil))
	})
}

// quietly writes where almost nothing happens.
func (w *traffic) quietly(ctx context.Context) {
	n := 0
	w.each(ctx, 1100*time.Millisecond, func(ctx context.Context) error {
		n++
		if n%3 == 0 {
			return w.do(ctx, clientv3.OpDelete(fmt.Sprint(quiet, n%2)))
		}
		return w.do(ctx, clientv3.OpPut(fmt.Sprint(quiet, n%2), fmt.Sprint(n)))
	})
}

// besides writes where nobody watches.
func (w *traffic) besides(ctx context.Context) {
	n := 0
	w.each(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		n++
		return w.do(ctx, clientv3.OpPut(fmt.Sprint(elsewhere, n%10), fmt.Sprint(n)))
	})
}

func (w *traffic) do(ctx context.Context, op clientv3.Op) error {
	_, err := w.client.Do(ctx, op)
	return err
}
