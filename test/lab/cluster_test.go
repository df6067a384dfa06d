package lab

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/oracle"
)

// The history of a cluster is whole whatever is done to it: with all that was
// compacted, and with both sides of a restore.
func TestAClusterKeepsItsHistoryOverCompactionsAndRestores(t *testing.T) {
	programs, err := EtcdProgramsOf(t.Context(), LatestEtcd)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := StartCluster(t, programs)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// A busy machine may change its leader at any time.
	leader := func() (m *Member) {
		t.Helper()
		must(Poll(ctx, func() (bool, error) {
			m = c.Leader(ctx)
			return m != nil, nil
		}))
		return m
	}
	var want []string
	written, era := 0, 0
	write := func(n int) (revision int64) {
		t.Helper()
		for range n {
			written++
			key, value := fmt.Sprint("k", written%3), fmt.Sprint("value ", written)
			// Without an answer it may have been written, or still be: again, it
			// changes nothing then.
			there := clientv3.Compare(clientv3.Value(key), "=", value)
			must(Poll(ctx, func() (bool, error) {
				trying, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				// Not by a client of all: it would wait for a member that is suspended.
				txn, err := leader().Client.Txn(trying).If(there).Then(clientv3.OpGet(key)).Else(clientv3.OpPut(key, value)).Commit()
				if err != nil {
					return false, err
				}
				revision = txn.Header.Revision
				if txn.Succeeded {
					revision = txn.Responses[0].GetResponseRange().Kvs[0].ModRevision
				}
				return true, nil
			}))
			want = append(want, fmt.Sprint(era, revision, oracle.DigestOf(value)))
		}
		return revision
	}
	compact := func(revision int64) {
		t.Helper()
		must(Poll(ctx, func() (bool, error) {
			err := c.Compact(ctx, revision)
			return err == nil, err
		}))
	}
	cluster := func() uint64 {
		t.Helper()
		var id uint64
		must(Poll(ctx, func() (bool, error) {
			list, err := c.Client.MemberList(ctx)
			if err == nil {
				id = list.Header.ClusterId
			}
			return err == nil, err
		}))
		return id
	}

	// Writes go on without one that only follows.
	follower := func() *Member {
		t.Helper()
		leads := leader()
		for _, m := range c.Members {
			if m != leads {
				return m
			}
		}
		return nil
	}

	compact(write(5))
	var snapshot Snapshot
	must(Poll(ctx, func() (bool, error) {
		var err error
		snapshot, err = c.Snapshot(ctx)
		return err == nil, err
	}))
	killed := follower()
	must(killed.Kill())
	compacted := write(4)
	must(killed.Start())
	must(c.AwaitHealthy(ctx))
	compact(compacted - 1)
	write(2)
	before := cluster()

	must(c.Restore(ctx, snapshot))
	era++
	if after := cluster(); after != before {
		t.Errorf("the cluster's id was %x and is %x", before, after)
	}
	must(Poll(ctx, func() (bool, error) {
		now, err := c.Revision(ctx)
		if err == nil && now != snapshot.Revision {
			return true, fmt.Errorf("restored to revision %d, not %d", now, snapshot.Revision)
		}
		return err == nil, err
	}))
	suspended := follower()
	must(suspended.Suspend())
	write(3)
	must(suspended.Resume())
	must(c.AwaitHealthy(ctx))

	insist := func(do func() error) {
		t.Helper()
		must(Poll(ctx, func() (bool, error) {
			err := do()
			return err == nil, err
		}))
	}
	at := func(m *Member) (revision int64) {
		t.Helper()
		insist(func() (err error) {
			revision, err = m.Revision(ctx)
			return err
		})
		return revision
	}
	alone := follower()
	stood := at(alone)
	insist(func() error { return c.Isolate(ctx, alone) })
	latest := write(4)
	if now := at(alone); now != stood {
		t.Errorf("alone, %s came from revision %d to %d", alone.Name, stood, now)
	}
	c.Rejoin()
	must(c.AwaitHealthy(ctx))
	if now := at(alone); now != latest {
		t.Errorf("not alone any more, %s is at revision %d, not %d", alone.Name, now, latest)
	}
	deposed := leader()
	insist(func() error { return c.Isolate(ctx, deposed) })
	must(Poll(ctx, func() (bool, error) {
		if _, leads, err := deposed.id(ctx); err != nil || leads || c.Leader(ctx) == nil {
			return false, fmt.Errorf("%s leads alone: %w", deposed.Name, err)
		}
		return true, nil
	}))
	write(1)
	c.Rejoin()
	must(c.AwaitHealthy(ctx))

	next := follower()
	must(Poll(ctx, func() (bool, error) {
		if c.Leader(ctx) == next {
			return true, nil
		}
		return false, cmp.Or(c.MoveLeader(ctx, next), fmt.Errorf("%s does not lead", next.Name))
	}))
	must(c.AwaitHealthy(ctx))
	compact(write(3))

	history, err := c.History(ctx)
	must(err)
	var got []string
	for _, change := range history {
		if !change.Restored {
			got = append(got, fmt.Sprint(change.Era, change.Revision, change.Value))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
