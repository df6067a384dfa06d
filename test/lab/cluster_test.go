package lab

import (
	"context"
	"fmt"
	"testing"
	"time"

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
	var want []string
	written, era := 0, 0
	write := func(n int) (revision int64) {
		t.Helper()
		for range n {
			written++
			value := fmt.Sprint("value ", written)
			// Not by a client of all: it would wait for a member that is suspended.
			put, err := c.Leader(ctx).Client.Put(ctx, fmt.Sprint("k", written%3), value)
			must(err)
			revision = put.Header.Revision
			want = append(want, fmt.Sprint(era, revision, oracle.DigestOf(value)))
		}
		return revision
	}
	cluster := func() uint64 {
		t.Helper()
		list, err := c.Client.MemberList(ctx)
		must(err)
		return list.Header.ClusterId
	}

	// Writes go on without one that only follows.
	follower := func() *Member {
		t.Helper()
		leader := c.Leader(ctx)
		for _, m := range c.Members {
			if m != leader {
				return m
			}
		}
		return nil
	}

	must(c.Compact(ctx, write(5)))
	snapshot, err := c.Snapshot(ctx)
	must(err)
	killed := follower()
	must(killed.Kill())
	compacted := write(4)
	must(killed.Start())
	must(c.AwaitHealthy(ctx))
	must(c.Compact(ctx, compacted-1))
	write(2)
	before := cluster()

	must(c.Restore(ctx, snapshot))
	era++
	if after := cluster(); after != before {
		t.Errorf("the cluster's id was %x and is %x", before, after)
	}
	if now, err := c.Revision(ctx); err != nil || now != snapshot.Revision {
		t.Errorf("restored to revision %d (%v), not %d", now, err, snapshot.Revision)
	}
	suspended := follower()
	must(suspended.Suspend())
	write(3)
	must(suspended.Resume())
	must(c.AwaitHealthy(ctx))
	next := follower()
	must(c.MoveLeader(ctx, next))
	must(Poll(ctx, func() (bool, error) {
		if c.Leader(ctx) == next {
			return true, nil
		}
		return false, fmt.Errorf("%s does not lead", next.Name)
	}))
	must(c.AwaitHealthy(ctx))
	must(c.Compact(ctx, write(3)))

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
