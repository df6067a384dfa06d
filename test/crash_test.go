package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"keyhook/test/lab"
	"keyhook/test/load"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

const concurrency = 16 // of each sink

// everything is a rule that sends every change below /k/ to a sink that gives up
// and retries soon.
func everything(box *receiver.Inbox, timeout string) string {
	return fmt.Sprintf(`
sinks:
  - name: hook
    webhook: {url: %q, timeout: %s}
    concurrency: %d
    retry: {initial: 50ms, max: 500ms}
rules:
  - name: all
    keys: /k/{path...}
    send: {sink: hook}
`, box.URL, timeout, concurrency)
}

// moment is when keyhook is killed.
type moment int

const (
	amidDeliveries moment = iota // after some requests
	justReady                    // right after it became ready
	anyTime                      // some time after it was started, ready or not
	moments
)

// Keyhook is killed again and again while a receiver fails a fifth of all
// requests and etcd is written to. Nothing is lost, the changes of a key arrive
// in order, ids stay what they are, and what arrives twice had only just
// succeeded.
func TestCrash(t *testing.T) {
	times, changes := either(10, 300), either(6000, 150_000)
	b := setUp(t, time.Duration(either(4, 60))*time.Minute)
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	hook := b.receiver.Inbox("hook")
	hook.Follow(receiver.Failing(seed, 0.2))

	// Some keys are there before keyhook is: what they held is told all the same.
	client := b.etcd.Client()
	b.must(load.Fill(b.ctx, client, 40, 10, func(i int) string { return fmt.Sprintf("/k/%03d", i) }, func(i int) string { return fmt.Sprint("before ", i) }))
	k := b.keyhook(everything(hook, "300ms"))
	k.FollowCommits()
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	var kills []oracle.Kill
	var writing errgroup.Group
	writing.SetLimit(1)
	for i := range times {
		mix := &load.Mix{Client: client, Seed: seed + uint64(i), Prefix: "/k/", Keys: 100}
		share := changes/times + 1
		before := hook.Arrived()
		writing.Go(func() error { return mix.Run(b.ctx, share) })
		switch moment(i) % moments {
		case amidDeliveries:
			b.must(hook.AwaitArrived(b.ctx, before+1+rng.IntN(share/2)))
		case justReady:
			k.AwaitReady()
		case anyTime:
			select {
			case <-time.After(time.Duration(rng.Int64N(int64(400 * time.Millisecond)))):
			case <-b.ctx.Done():
			}
		}
		kills = append(kills, b.kill(k))
		k.Start()
	}
	b.must(writing.Wait())
	k.AwaitReady()
	owed := b.etcd.HistorySoFar().After(ready)
	if len(owed) < changes {
		t.Errorf("only %d changes were made", len(owed))
	}
	b.must(hook.AwaitAccepted(b.ctx, len(owed)))
	b.settled(k)
	b.stopped(k)

	b.check(hook, oracle.Promise{After: ready, Kills: kills, InFlight: concurrency, Lossy: true})
}

// Stopped in full flight, keyhook finishes what it has begun and repeats
// nothing.
func TestCleanStops(t *testing.T) {
	const stops, share = 4, 1500
	b := setUp(t, 3*time.Minute)
	seed := seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	hook := b.receiver.Inbox("hook")
	hook.Follow(func(a *oracle.Attempt, nth int) receiver.Reply {
		switch draw := receiver.Draw(seed, a, nth); {
		case draw < 0.2:
			return receiver.Unavailable
		case draw < 0.7:
			return receiver.Late // so that much is in flight
		}
		return receiver.Accept
	})
	k := b.keyhook(everything(hook, "30s"))
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	client := b.etcd.Client()
	var writing errgroup.Group
	writing.SetLimit(1)
	for i := range stops {
		mix := &load.Mix{Client: client, Seed: seed + uint64(i), Prefix: "/k/", Keys: 100}
		before := hook.Arrived()
		writing.Go(func() error { return mix.Run(b.ctx, share) })
		b.must(hook.AwaitArrived(b.ctx, before+1+rng.IntN(share/2)))
		b.stopped(k)
		k.Start()
	}
	b.must(writing.Wait())
	owed := b.etcd.HistorySoFar().After(ready)
	b.must(hook.AwaitAccepted(b.ctx, len(owed)))
	b.settled(k)
	b.stopped(k)

	b.check(hook, oracle.Promise{After: ready})
}

// kill kills keyhook, whose commits are followed, and waits until all that it had
// sent to the receiver has been dealt with.
func (b *bench) kill(k *lab.Keyhook) oracle.Kill {
	b.Helper()
	k.Kill()
	b.must(b.receiver.AwaitHangup(b.ctx))
	return oracle.Kill{At: time.Now(), Durable: k.Durable()}
}

// stopped stops keyhook, which must end well.
func (b *bench) stopped(k *lab.Keyhook) {
	b.Helper()
	if code := k.Stop(); code != 0 {
		b.Errorf("keyhook ended with code %d", code)
	}
	b.must(b.receiver.AwaitHangup(b.ctx))
}

// settled waits until keyhook says that it owes nothing. It must have given up
// nothing either.
func (b *bench) settled(k *lab.Keyhook) {
	b.Helper()
	b.owes(k, 0)
	if n := k.Metric("keyhook_dead_letters"); n != 0 {
		b.Errorf("%v dead letters", n)
	}
}

// owes waits until keyhook says that it owes n deliveries: it hears of what a
// receiver has accepted a little later than the receiver.
func (b *bench) owes(k *lab.Keyhook, n int, labels ...string) {
	b.Helper()
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if owed := k.Metric("keyhook_owed", labels...); owed != float64(n) {
			return false, fmt.Errorf("keyhook owes %v, not %d", owed, n)
		}
		return true, nil
	}))
}

// history stops etcd and returns what it has ever held below /k/.
func (b *bench) history() oracle.History {
	b.Helper()
	return b.etcd.History().Under(func(key string) bool { return strings.HasPrefix(key, "/k/") })
}

// check stops etcd and holds what arrived against its history.
func (b *bench) check(box *receiver.Inbox, p oracle.Promise) *oracle.Report {
	b.Helper()
	return b.checkAgainst(b.history(), box, p)
}

func (b *bench) checkAgainst(h oracle.History, box *receiver.Inbox, p oracle.Promise) *oracle.Report {
	b.Helper()
	if err := box.Err(); err != nil {
		b.Error(err)
	}
	r := oracle.Check(h, box.Attempts(), p)
	b.Logf("%s: %v", box.URL, r)
	if err := r.Err(); err != nil {
		b.Errorf("%s: %v", box.URL, err)
	}
	return r
}
