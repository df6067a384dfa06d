package test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"keyhook/test/lab"
	"keyhook/test/load"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

const (
	// memoryBound is how much memory keyhook may take above what it has when
	// idle, whatever it owes.
	memoryBound = 256 << 20
	// slowerAtMost is by what factor trouble elsewhere may slow healthy
	// deliveries here.
	slowerAtMost = 5
)

// keepsUp makes rounds of deliveries until one takes no longer than slowerAtMost
// times what the same took alone: the machine may have something else to do
// during some of them, but what holds deliveries up holds up every round.
func (b *bench) keepsUp(alone time.Duration, round func(n int) time.Duration) {
	b.Helper()
	const rounds = 10
	for n := range rounds {
		took := round(n)
		b.Logf("round %d: %v, alone %v", n, took, alone)
		if took <= slowerAtMost*alone {
			return
		}
	}
	b.Errorf("every one of %d rounds took more than %d times as long as alone", rounds, slowerAtMost)
}

// A sink is dead beside a healthy one, which is not slowed. Memory stays
// bounded. keyhook is killed and etcd compacted during the outage; when the sink
// is back, everything arrives in order.
func TestDeadSinkBesideHealthy(t *testing.T) {
	changes := either(20_000, 200_000)
	b := setUp(t, time.Duration(either(4, 40))*time.Minute)
	healthy, dead := b.receiver.Inbox("healthy"), b.receiver.Inbox("dead")
	dead.Follow(func(_ *oracle.Attempt, nth int) receiver.Reply {
		if nth%2 == 0 {
			return receiver.Unavailable
		}
		return receiver.Hang
	})
	k := b.keyhook(fmt.Sprintf(`
sinks:
  - name: healthy
    webhook: {url: %q, timeout: 30s}
    concurrency: %d
  - name: dead
    webhook: {url: %q, timeout: 300ms}
    concurrency: %d
    retry: {initial: 100ms, max: 1s}
rules:
  - name: one
    keys: /k/alone/{path...}
    send: {sink: healthy}
  - name: both
    keys: /k/both/{path...}
    send: [{sink: healthy}, {sink: dead}]
`, healthy.URL, concurrency, dead.URL, concurrency))
	k.FollowCommits()
	k.Start()
	k.AwaitReady()
	idle, _ := k.Memory()
	ready := b.etcd.Revision()

	// Ten changes of each key, 1 KiB each.
	client := b.etcd.Client()
	value := func(i int) string { return fmt.Sprintf("%-1024d", i) }
	write := func(dir string, n int) time.Duration {
		t.Helper()
		before, began := healthy.Accepted(), time.Now()
		key := func(i int) string { return fmt.Sprintf("/k/%s/%06d", dir, i%(n/10)) }
		b.must(load.Fill(b.ctx, client, n, load.Batch, key, value))
		b.must(healthy.AwaitAccepted(b.ctx, before+n))
		return time.Since(began)
	}
	alone := write("alone", changes)
	b.bounded(k, idle)
	owed := 0
	beside := func(n int) time.Duration {
		owed += n
		return write("both", n)
	}
	// All of it at once, and if that was slow, in parts.
	b.keepsUp(alone, func(n int) time.Duration {
		if n == 0 {
			return beside(changes)
		}
		return 10 * beside(changes/10)
	})
	b.owes(k, owed, `sink="dead"`)
	b.bounded(k, idle)

	var kills []oracle.Kill
	crash := func() {
		t.Helper()
		kills = append(kills, b.kill(k))
		k.Start()
		k.AwaitReady()
	}
	crash()
	b.durable(k)
	t.Logf("compacted at %d", b.etcd.Compact())
	crash()
	b.owes(k, owed, `sink="dead"`) // after two kills and a compaction
	if dead.Accepted() != 0 {
		t.Fatal("the dead sink took something")
	}

	back := time.Now()
	dead.Follow(receiver.Accepting)
	beside(changes / 10)
	b.must(dead.AwaitAccepted(b.ctx, owed))
	t.Logf("everything has arrived %v after the sink was back", time.Since(back))
	b.settled(k)
	b.bounded(k, idle)
	b.stopped(k)

	promise := oracle.Promise{After: ready, Kills: kills, InFlight: concurrency, Lossy: true}
	h := b.history()
	b.checkAgainst(h, healthy, promise)
	b.checkAgainst(h.Under(func(key string) bool { return strings.HasPrefix(key, "/k/both/") }), dead, promise)
}

// bounded checks the memory of keyhook at its highest since it was started.
func (b *bench) bounded(k *lab.Keyhook, idle int64) {
	b.Helper()
	_, peak := k.Memory()
	b.Logf("memory: %d MiB at most, %d MiB idle", peak>>20, idle>>20)
	if peak-idle > memoryBound {
		b.Errorf("keyhook took %d MiB, %d MiB more than when idle", peak>>20, (peak-idle)>>20)
	}
}

// durable waits until keyhook has committed that it has read everything that
// etcd holds now.
func (b *bench) durable(k *lab.Keyhook) {
	b.Helper()
	revision := float64(b.etcd.Revision())
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if at := k.Metric("keyhook_position_revision"); at < revision {
			return false, fmt.Errorf("keyhook is at %v of %v", at, revision)
		}
		return true, nil
	}))
	// Whatever was committed when the position was read, the second commit after
	// that holds it.
	commits := k.Metric("keyhook_commit_duration_seconds_count")
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if n := k.Metric("keyhook_commit_duration_seconds_count"); n < commits+2 {
			return false, fmt.Errorf("%v commits, %v before", n, commits)
		}
		return true, nil
	}))
}

// Thousands of keys that never succeed do not stand in the way of the others
// that the same rule sends to the same sink.
func TestPoisonKeys(t *testing.T) {
	const poison, healthy, each = 5000, 500, 10
	b := setUp(t, 4*time.Minute)
	hook := b.receiver.Inbox("hook")
	poisoned := func(key string) bool { return strings.HasPrefix(key, "/k/poison/") }
	var tried, again atomic.Int64 // poisoned keys
	sick := func(a *oracle.Attempt, nth int) receiver.Reply {
		if poisoned(a.Key) {
			switch nth {
			case 1:
				tried.Add(1)
			case 2:
				again.Add(1)
			}
			return receiver.Unavailable
		}
		return receiver.Accept
	}
	hook.Follow(sick)
	k := b.keyhook(strings.Replace(everything(hook, "30s"), "initial: 50ms, max: 500ms", "initial: 1s, max: 5s", 1))
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	client := b.etcd.Client()
	value := func(i int) string { return fmt.Sprint("value ", i) }
	write := func(round string) time.Duration {
		t.Helper()
		before, began := hook.Accepted(), time.Now()
		key := func(i int) string { return fmt.Sprintf("/k/%s/%04d", round, i%healthy) }
		b.must(load.Fill(b.ctx, client, healthy*each, 50, key, value))
		b.must(hook.AwaitAccepted(b.ctx, before+healthy*each))
		return time.Since(began)
	}
	alone := write("before")
	// Two changes each, so that something also waits behind what fails. Healthy
	// changes go on meanwhile: with nothing else than failures for a while the sink
	// would be taken for down, and left alone.
	beating, rest := context.WithCancel(b.ctx)
	defer rest()
	var beats errgroup.Group
	written := healthy * each
	beats.Go(func() error {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
			case <-beating.Done():
				tick.Stop()
				return nil
			}
			if _, err := client.Put(b.ctx, "/k/beat", fmt.Sprint(written)); err != nil {
				return err
			}
			written++
		}
	})
	b.must(load.Fill(b.ctx, client, 2*poison, load.Batch, func(i int) string { return fmt.Sprintf("/k/poison/%04d", i%poison) }, value))
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if n, m := tried.Load(), again.Load(); n < poison || m == 0 {
			return false, fmt.Errorf("%d of %d poisoned keys were tried, %d again", n, poison, m)
		}
		return true, nil
	}))
	rest()
	b.must(beats.Wait())
	b.must(hook.AwaitAccepted(b.ctx, written))
	b.keepsUp(alone, func(n int) time.Duration {
		before := hook.Arrived()
		took := write(fmt.Sprint("beside", n))
		written += healthy * each
		t.Logf("%d attempts at %d poisoned keys beside", hook.Arrived()-before-healthy*each, poison)
		return took
	})
	b.owes(k, 2*poison)

	hook.Follow(receiver.Accepting)
	b.must(hook.AwaitAccepted(b.ctx, written+2*poison))
	b.settled(k)
	b.stopped(k)
	b.check(hook, oracle.Promise{After: ready})
}

// A prefix is deleted: 50,000 changes in one revision, each with what its key
// held. keyhook is killed in the middle of it.
func TestHugeRevision(t *testing.T) {
	const keys = 50_000
	b := setUp(t, 4*time.Minute)
	hook := b.receiver.Inbox("hook")
	client := b.etcd.Client()
	value := func(i int) string { return fmt.Sprintf("%-1024d", i) }
	b.must(load.Fill(b.ctx, client, keys, load.Batch, func(i int) string { return fmt.Sprintf("/k/%06d", i) }, value))
	// Some are answered only after the kill.
	var answered, killed atomic.Int64
	hook.Follow(func(*oracle.Attempt, int) receiver.Reply {
		if answered.Add(1) > keys*3/4 && killed.Load() == 0 {
			return receiver.Hang
		}
		return receiver.Accept
	})
	k := b.keyhook(everything(hook, "10m"))
	k.FollowCommits()
	k.Start()
	k.AwaitReady()
	idle, _ := k.Memory()
	ready := b.etcd.Revision()

	resp, err := client.Delete(b.ctx, "/k/", clientv3.WithPrefix())
	b.must(err)
	if resp.Deleted != keys || resp.Header.Revision != ready+1 {
		t.Fatalf("%d keys deleted at %d, after %d", resp.Deleted, resp.Header.Revision, ready)
	}
	b.must(hook.AwaitAccepted(b.ctx, keys/2))
	b.bounded(k, idle)
	kill := b.kill(k)
	killed.Store(1)
	k.Start()
	b.must(hook.AwaitAccepted(b.ctx, keys))
	k.AwaitReady()
	b.settled(k)
	b.bounded(k, idle)
	b.stopped(k)

	r := b.check(hook, oracle.Promise{After: ready, Kills: []oracle.Kill{kill}, InFlight: concurrency, Lossy: true})
	if r.Changes != keys {
		t.Errorf("the history owes %d changes", r.Changes)
	}
}
