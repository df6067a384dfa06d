package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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
	// deliveries here. It is wide, because the machine may be busy with something
	// else in one of the two halves that are compared.
	slowerAtMost = 5
)

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
	beside := write("both", changes)
	t.Logf("%d changes to the healthy sink: %v alone, %v beside the dead one", changes, alone, beside)
	if beside > slowerAtMost*alone {
		t.Errorf("the healthy sink took %v beside a dead one, %v alone", beside, alone)
	}
	b.owes(k, changes, `sink="dead"`)
	b.bounded(k, idle)

	var died []time.Time
	crash := func() {
		t.Helper()
		k.Kill()
		b.must(b.receiver.AwaitHangup(b.ctx))
		died = append(died, time.Now())
		k.Start()
		k.AwaitReady()
	}
	crash()
	b.durable(k)
	t.Logf("compacted at %d", b.etcd.Compact())
	crash()
	b.owes(k, changes, `sink="dead"`) // after two kills and a compaction
	if dead.Accepted() != 0 {
		t.Fatal("the dead sink took something")
	}

	back := time.Now()
	dead.Follow(receiver.Accepting)
	write("both", changes/10)
	b.must(dead.AwaitAccepted(b.ctx, changes+changes/10))
	t.Logf("everything has arrived %v after the sink was back", time.Since(back))
	b.settled(k)
	b.bounded(k, idle)
	b.stopped(k)

	promise := oracle.Promise{After: ready, Kills: died, InFlight: concurrency, Lossy: true}
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
	sick := func(a *oracle.Attempt, _ int) receiver.Reply {
		if poisoned(a.Key) {
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
	// Two changes each, so that something also waits behind what fails.
	b.must(load.Fill(b.ctx, client, 2*poison, load.Batch, func(i int) string { return fmt.Sprintf("/k/poison/%04d", i%poison) }, value))
	b.must(hook.AwaitArrived(b.ctx, healthy*each+poison))
	tried := hook.Arrived()
	beside := write("beside")
	tried = hook.Arrived() - tried - healthy*each
	t.Logf("%d healthy changes: %v alone, %v beside %d poisoned keys with %d attempts", healthy*each, alone, beside, poison, tried)
	if beside > slowerAtMost*alone {
		t.Errorf("healthy keys took %v beside poisoned ones, %v alone", beside, alone)
	}
	b.owes(k, 2*poison)

	hook.Follow(receiver.Accepting)
	b.must(hook.AwaitAccepted(b.ctx, 2*healthy*each+2*poison))
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
	k := b.keyhook(everything(hook, "30s"))
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
	k.Kill()
	b.must(b.receiver.AwaitHangup(b.ctx))
	if n := hook.Accepted(); n == keys {
		t.Error("the kill came too late to be in the middle")
	}
	died := time.Now()
	k.Start()
	b.must(hook.AwaitAccepted(b.ctx, keys))
	k.AwaitReady()
	b.settled(k)
	b.bounded(k, idle)
	b.stopped(k)

	r := b.check(hook, oracle.Promise{After: ready, Kills: []time.Time{died}, InFlight: concurrency, Lossy: true})
	if r.Changes != keys {
		t.Errorf("the history owes %d changes", r.Changes)
	}
}
