package test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"keyhook/test/lab"
	"keyhook/test/load"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

var natsProgram = built(lab.BuildNATS)

// startNATS starts a nats-server.
func (b *bench) startNATS() *lab.NATS {
	b.Helper()
	program, err := natsProgram()
	b.must(err)
	return lab.StartNATS(b.T, program)
}

// toTheBus is a rule that sends every change below /k/ to a subject of its key.
func toTheBus(url string, jetStream bool) string {
	return fmt.Sprintf(`
sinks:
  - name: bus
    nats: {url: %q, jetstream: %t}
    retry: {initial: 50ms, max: 500ms}
rules:
  - name: all
    keys: /k/{path...}
    send: {sink: bus, subject: '"k." + nats.token(event.key)'}
`, url, jetStream)
}

// keyhook is killed ten times and nats-server three times while etcd is written
// to. Inside the window in which JetStream drops repeats the stream holds every
// change exactly once, those of a key in order.
func TestJetStreamHoldsEveryChangeOnce(t *testing.T) {
	const keyhookKills, natsKills = 10, 3
	changes := either(5000, 50_000)
	b := setUp(t, time.Duration(either(4, 20))*time.Minute)
	server := b.startNATS()
	stream := b.stream(server, jetstream.StreamConfig{Name: "CHANGES", Subjects: []string{"k.>"}, Duplicates: time.Hour})
	k := b.keyhook(toTheBus(server.URL, true))
	k.FollowCommits()
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	arrived := func(n int) error {
		return lab.Poll(b.ctx, func() (bool, error) {
			info, err := stream.Info(b.ctx)
			switch {
			case err != nil: // the server may be on its way back
				return false, err
			case info.State.Msgs < uint64(n):
				return false, fmt.Errorf("the stream has %d messages of %d", info.State.Msgs, n)
			}
			return true, nil
		})
	}
	b.killing(k, server, changes, keyhookKills, natsKills, arrived, func() {})
	owed := b.etcd.HistorySoFar().After(ready)
	if len(owed) < changes {
		t.Errorf("only %d changes were made", len(owed))
	}
	b.must(arrived(len(owed)))
	b.settled(k)
	b.stopped(k)

	// No kill is told: nothing may be there twice.
	report := oracle.Check(b.history(), b.stored(stream), oracle.Promise{After: ready})
	t.Logf("the stream: %v", report)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// The same with a subscriber of core NATS, where only the server acknowledges:
// whatever was sent while the subscriber was connected arrives at least once.
func TestCoreNATSGetsEveryChangeAtLeastOnce(t *testing.T) {
	changes := either(2000, 20_000)
	b := setUp(t, time.Duration(either(4, 20))*time.Minute)
	server := b.startNATS()
	heard := b.listen(server)
	others := server.Connections()
	k := b.keyhook(toTheBus(server.URL, false))
	k.FollowCommits()
	k.Start()
	k.AwaitReady()
	ready := b.etcd.Revision()

	kills := b.killing(k, server, changes, 10, 0, heard.await, func() {
		b.must(lab.Poll(b.ctx, func() (bool, error) {
			if n := server.Connections(); n > others {
				return false, fmt.Errorf("%d clients are connected", n)
			}
			return true, nil
		}))
		b.must(heard.caughtUp())
	})
	owed := b.etcd.HistorySoFar().After(ready)
	b.must(heard.await(len(owed)))
	b.settled(k)
	b.stopped(k)

	attempts, err := heard.all()
	b.must(err)
	report := oracle.Check(b.history(), attempts, oracle.Promise{After: ready, Kills: kills, InFlight: maxInFlight})
	t.Logf("the subscriber: %v", report)
	if err := report.Err(); err != nil {
		t.Error(err)
	}
}

// maxInFlight is the default concurrency of a NATS sink, or more.
const maxInFlight = 256

// killing writes changes while it kills keyhook, each time after some deliveries
// have arrived, and nats-server in between. It returns when keyhook was killed,
// each time as of when all that it had sent was taken in.
func (b *bench) killing(
	k *lab.Keyhook, server *lab.NATS, changes, keyhookKills, natsKills int, arrived func(int) error, takenIn func(),
) (kills []oracle.Kill) {
	b.Helper()
	seed := seed(b.T)
	rng := rand.New(rand.NewPCG(seed, 0))
	client := b.etcd.Client()
	var writing errgroup.Group
	writing.SetLimit(1)
	share := changes/keyhookKills + 1
	for i := range keyhookKills {
		mix := &load.Mix{Client: client, Seed: seed + uint64(i), Prefix: "/k/", Keys: 100}
		writing.Go(func() error { return mix.Run(b.ctx, share) })
		b.must(arrived(i*share + 1 + rng.IntN(share/2)))
		if (i+1)*natsKills/keyhookKills > i*natsKills/keyhookKills {
			server.Kill()
			server.Start()
		}
		k.Kill()
		takenIn()
		kills = append(kills, oracle.Kill{At: time.Now(), Durable: k.Durable()})
		k.Start()
	}
	b.must(writing.Wait())
	k.AwaitReady()
	return kills
}

// stream makes a stream. Its handle outlives restarts of the server.
func (b *bench) stream(server *lab.NATS, cfg jetstream.StreamConfig) jetstream.Stream {
	b.Helper()
	js, err := jetstream.New(server.Connect())
	b.must(err)
	stream, err := js.CreateStream(b.ctx, cfg)
	b.must(err)
	return stream
}

// stored returns what a stream holds, in its order.
func (b *bench) stored(stream jetstream.Stream) []oracle.Attempt {
	b.Helper()
	info, err := stream.Info(b.ctx)
	b.must(err)
	consumer, err := stream.OrderedConsumer(b.ctx, jetstream.OrderedConsumerConfig{})
	b.must(err)
	var all []oracle.Attempt
	for range info.State.Msgs {
		msg, err := consumer.Next(jetstream.FetchMaxWait(30 * time.Second))
		b.must(err)
		attempt, err := receiver.Parse(msg.Headers().Get(jetstream.MsgIDHeader), msg.Data())
		b.must(err)
		meta, err := msg.Metadata()
		b.must(err)
		attempt.Arrival, attempt.OK, attempt.Answered = len(all)+1, true, meta.Timestamp
		all = append(all, *attempt)
	}
	return all
}

// listener is a subscriber of core NATS.
type listener struct {
	ctx     context.Context
	conn    *nats.Conn
	sub     *nats.Subscription
	mu      sync.Mutex
	heard   []oracle.Attempt
	ids     map[string]bool
	faults  []error
	changed chan struct{}
}

// listen subscribes to everything below k.
func (b *bench) listen(server *lab.NATS) *listener {
	b.Helper()
	l := &listener{ctx: b.ctx, conn: server.Connect(), ids: make(map[string]bool), changed: make(chan struct{})}
	var err error
	l.sub, err = l.conn.Subscribe("k.>", l.hear)
	b.must(err)
	b.must(l.sub.SetPendingLimits(-1, -1))
	b.must(l.conn.FlushWithContext(b.ctx))
	return l
}

func (l *listener) hear(msg *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	attempt, err := receiver.Parse(msg.Header.Get(jetstream.MsgIDHeader), msg.Data)
	if err != nil {
		l.faults = append(l.faults, err)
		return
	}
	attempt.Arrival, attempt.OK, attempt.Answered = len(l.heard)+1, true, time.Now()
	l.heard = append(l.heard, *attempt)
	l.ids[attempt.ID] = true
	close(l.changed)
	l.changed = make(chan struct{})
}

// caughtUp waits until everything that the server has was heard.
func (l *listener) caughtUp() error {
	if err := l.conn.FlushWithContext(l.ctx); err != nil {
		return err
	}
	return lab.Poll(l.ctx, func() (bool, error) {
		waiting, _, err := l.sub.Pending()
		if err != nil || waiting > 0 {
			return err != nil, cmp.Or(err, fmt.Errorf("%d messages wait to be heard", waiting))
		}
		// The last one may be on its way through hear.
		delivered, err := l.sub.Delivered()
		l.mu.Lock()
		defer l.mu.Unlock()
		if heard := int64(len(l.heard) + len(l.faults)); err == nil && heard < delivered {
			return false, fmt.Errorf("%d of %d messages were heard", heard, delivered)
		}
		return true, err
	})
}

// await waits until n different messages were heard.
func (l *listener) await(n int) error {
	for {
		l.mu.Lock()
		got, changed := len(l.ids), l.changed
		l.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return fmt.Errorf("%d of %d messages were heard: %w", got, n, context.Cause(l.ctx))
		}
	}
}

// all returns what was heard, in order.
func (l *listener) all() ([]oracle.Attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard, errors.Join(l.faults...)
}
