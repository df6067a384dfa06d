// Package load writes to etcd what the tests need: much of the same quickly, or
// a bit of everything.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// maxOps is how many operations etcd takes in one transaction by default.
const maxOps = 128

// writers is how many transactions are on their way at a time.
const writers = 16

// Fill puts n keys, perTxn of them in one revision.
func Fill(ctx context.Context, client *clientv3.Client, n, perTxn int, key func(i int) string, value func(i int) string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for from := 0; from < n && ctx.Err() == nil; from += perTxn {
		group.Go(func() error {
			ops := make([]clientv3.Op, 0, perTxn)
			for i := from; i < min(from+perTxn, n); i++ {
				ops = append(ops, clientv3.OpPut(key(i), value(i)))
			}
			_, err := client.Txn(ctx).Then(ops...).Commit()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// Batch is the largest perTxn of [Fill].
const Batch = maxOps

// Mix writes a bit of everything to a few keys: puts, deletes, leases, deletes
// of many keys at once, transactions, and transactions that put and delete the
// same key.
type Mix struct {
	Client *clientv3.Client
	Seed   uint64
	Prefix string
	Keys   int
}

// Run makes at least n changes, from several writers at once.
func (m *Mix) Run(ctx context.Context, n int) error {
	lease, err := m.Client.Grant(ctx, 3600)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	const share = 4
	group, ctx := errgroup.WithContext(ctx)
	for w := range share {
		rng := rand.New(rand.NewPCG(m.Seed, uint64(w)))
		group.Go(func() error {
			for made := 0; made < n/share+1; {
				changes, err := m.Step(ctx, rng, lease.ID)
				if err != nil {
					return err
				}
				made += changes
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("mixed load: %w", err)
	}
	return nil
}

func (m *Mix) key(i int) string { return fmt.Sprintf("%s%03d", m.Prefix, i) }

func (m *Mix) value(rng *rand.Rand) string { return fmt.Sprintf("%016x", rng.Uint64()) }

// Step makes one transaction, which may put something under a lease, and returns
// how many changes etcd made of it.
func (m *Mix) Step(ctx context.Context, rng *rand.Rand, lease clientv3.LeaseID) (int, error) {
	key := m.key(rng.IntN(m.Keys))
	var op clientv3.Op
	switch p := rng.IntN(100); {
	case p < 55:
		op = clientv3.OpPut(key, m.value(rng))
	case p < 60:
		op = clientv3.OpPut(key, m.value(rng), clientv3.WithLease(lease))
	case p < 75:
		op = clientv3.OpDelete(key)
	case p < 77:
		first := rng.IntN(m.Keys - 5)
		op = clientv3.OpDelete(m.key(first), clientv3.WithRange(m.key(first+5)))
	case p < 90: // several keys in one revision
		var ops []clientv3.Op
		for _, i := range rng.Perm(m.Keys)[:2+rng.IntN(5)] {
			if rng.IntN(4) == 0 {
				ops = append(ops, clientv3.OpDelete(m.key(i)))
			} else {
				ops = append(ops, clientv3.OpPut(m.key(i), m.value(rng)))
			}
		}
		op = clientv3.OpTxn(nil, ops, nil)
	default: // a key put and deleted in one revision
		op = clientv3.OpTxn(nil, []clientv3.Op{
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut(key, m.value(rng))}, nil),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpDelete(key)}, nil),
		}, nil)
	}
	resp, err := m.Client.Do(ctx, op)
	if err != nil {
		return 0, err
	}
	return changes(resp), nil
}

// changes counts what an operation has changed.
func changes(resp clientv3.OpResponse) int {
	switch {
	case resp.Put() != nil:
		return 1
	case resp.Del() != nil:
		return int(resp.Del().Deleted)
	case resp.Txn() != nil:
		return inTxn(resp.Txn())
	}
	return 0
}

func inTxn(txn *clientv3.TxnResponse) int {
	n := 0
	for _, r := range txn.Responses {
		switch {
		case r.GetResponsePut() != nil:
			n++
		case r.GetResponseDeleteRange() != nil:
			n += int(r.GetResponseDeleteRange().GetDeleted())
		case r.GetResponseTxn() != nil:
			n += inTxn((*clientv3.TxnResponse)(r.GetResponseTxn()))
		}
	}
	return n
}
