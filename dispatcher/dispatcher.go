package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// Dispatcher drives the machine of one shard. It has no state beyond its
// fields: several may run side by side in one process.
type Dispatcher struct {
	cfg    Config
	log    *slog.Logger
	loaded *checkpoint.State

	admissions chan *Batch
	flushes    chan chan struct{}
	finished   finished
	loads      chan []load
	pages      chan page
	commits    chan *checkpoint.Commit
	commitDone chan committed
	poke       chan struct{} // what is behind mu has changed
	looks      chan struct{} // something is due that waits for reading
	stopping   chan struct{} // closed when Run begins to stop
	done       chan struct{} // closed when Run has ended

	work    context.Context // of attempts: ends with the grace
	endWork context.CancelFunc
	retired sync.WaitGroup // pools that are being closed

	wanting atomic.Int32 // calls of Admit that wait

	mu       sync.Mutex // held while the machine decides, never while anything waits
	m        *machine
	pools    map[string]*pool
	ranges   []checkpoint.RangeState
	identity checkpoint.Identity
	commit   commitState
	pace     pace
	waiters  []waiter
	toLoad   []load // accepted by the machine, not yet by the loader
}

// waiter is a Flush that waits for a commit.
type waiter struct {
	sequence uint64
	durable  chan struct{}
}

// Open loads the shard's checkpoint, and the index of what it owes. It takes
// over the deliverers of cfg.Sinks and closes them when Run ends.
func Open(ctx context.Context, cfg Config) (*Dispatcher, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	m := newMachine(&cfg)
	m.start = time.Now()
	loaded, err := m.restore(ctx, moment{0, m.start}, cfg.Store)
	if err != nil {
		return nil, err
	}
	for _, s := range m.order {
		if !s.configured && s.owed > 0 {
			cfg.Logger.Warn("no rule file defines a sink that is still owed something: it stays owed until one does", "sink", s.name, "owed", s.owed)
		}
	}
	d := &Dispatcher{
		cfg: cfg, log: cfg.Logger, loaded: loaded, m: m,
		admissions: make(chan *Batch),
		flushes:    make(chan chan struct{}),
		finished:   finished{arrived: make(chan struct{}, 1)},
		loads:      make(chan []load, 1),
		pages:      make(chan page, 4),
		commits:    make(chan *checkpoint.Commit, 1),
		commitDone: make(chan committed, 1),
		poke:       make(chan struct{}, 1),
		looks:      make(chan struct{}, 1),
		stopping:   make(chan struct{}),
		done:       make(chan struct{}),
		pools:      make(map[string]*pool),
		ranges:     slices.Clone(loaded.Ranges),
		identity:   checkpoint.Identity{Source: loaded.Source, ClusterID: loaded.ClusterID, Epoch: loaded.Epoch},
	}
	d.work, d.endWork = context.WithCancel(context.WithoutCancel(ctx))
	return d, nil
}

// Checkpoint returns the checkpoint as it was when the dispatcher was opened.
func (d *Dispatcher) Checkpoint() *checkpoint.State { return d.loaded }

// Admit takes over a batch: all of it becomes durable, or none. It waits while
// too much is uncommitted or commits fail, and returns ctx's error or
// ErrStopped if the batch was not taken. Batches of one goroutine keep their
// order.
func (d *Dispatcher) Admit(ctx context.Context, b *Batch) error {
	select {
	case <-d.stopping: // even if the loop could still take it
		return ErrStopped
	default:
	}
	d.wanting.Add(1)
	defer d.wanting.Add(-1)
	select {
	case d.admissions <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.stopping:
		return ErrStopped
	}
}

// Identify makes id part of the next commit.
func (d *Dispatcher) Identify(ctx context.Context, id checkpoint.Identity) error {
	d.mu.Lock()
	if d.identity != id {
		d.identity = id
		d.m.pend.identity = &id
	}
	d.mu.Unlock()
	d.wake()
	return d.Flush(ctx)
}

// Flush returns nil when everything that was admitted before the call is
// durable. It waits for Run to begin.
func (d *Dispatcher) Flush(ctx context.Context) error {
	// Through the loop, as batches are: whoever has admitted a batch finds it
	// there.
	durable := make(chan struct{})
	select {
	case d.flushes <- durable:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return ErrStopped
	}
	select {
	case <-durable:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return ErrStopped
	}
}

// flush closes durable once everything admitted so far is.
func (d *Dispatcher) flush(durable chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := waiter{sequence: d.m.sequence, durable: durable}
	switch {
	case !d.m.pend.empty():
		w.sequence++
	case d.m.durableSequence == d.m.sequence:
		close(durable)
		return
	}
	d.waiters = append(d.waiters, w)
}

// SetSinks replaces the sinks. A sink whose fingerprint is unchanged goes on as
// it is, and its new deliverer is closed unused. A sink that is gone delivers
// what it owes, then is closed.
func (d *Dispatcher) SetSinks(all []Sink) { d.SetRules(all, nil) }

// SetRules replaces the sinks as SetSinks does, and what is known of the rules:
// what is owed gets its names of today, and what waits for its time agrees with
// their spans of today. No batch of the old rules may come behind it.
func (d *Dispatcher) SetRules(all []Sink, rules *Rules) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for old, today := range d.m.setRules(d.moment(time.Now()), rules) {
		if p := d.pools[old]; p != nil {
			delete(d.pools, old)
			d.pools[today] = p
		}
	}
	names := make(map[string]bool, len(all))
	for _, cfg := range all {
		cfg.setDefaults()
		names[cfg.Name] = true
		d.setSink(cfg)
	}
	for _, s := range d.m.order {
		if !names[s.name] {
			s.defined = false
		}
	}
	d.wake()
}

// Status returns a consistent picture, whether Run runs or not.
func (d *Dispatcher) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := Status{
		Sinks: d.m.status(), Ranges: slices.Clone(d.ranges), Identity: d.identity,
		Sequence: d.m.durableSequence, LastCommit: d.commit.last, Stalled: d.commit.stalled,
		MemoryBytes: d.m.total, Uncommitted: d.m.uncommitted(),
	}
	if d.commit.err != nil {
		st.CommitError = d.commit.err.Error()
	}
	return st
}

func (d *Dispatcher) wake() {
	notify(d.poke)
}

// report tells the observer and the log of what has ended.
func (d *Dispatcher) report(now time.Time) {
	for _, e := range d.m.ends {
		var age time.Duration
		if e.d != nil {
			age = now.Sub(e.d.Event.Time)
			if !e.d.Timing.IsZero() {
				age = now.Sub(e.d.Admitted) // not what its rule made it wait
			}
		}
		d.cfg.Observer.Settled(e.lane.name.rule, e.lane.name.sink, e.outcome, age)
		if e.outcome == keyhook.Dead {
			d.log.Warn("dead letter", "id", e.d.ID, "rule", e.d.Rule, "send", e.d.Send, "sink", e.d.Sink,
				"key", string(e.d.Event.Key), "revision", e.d.Event.Revision, "reason", string(e.reason), "error", e.err)
		}
	}
	clear(d.m.ends)
	d.m.ends = d.m.ends[:0]
	d.reportTurns(now)
	for sink, n := range d.m.expired {
		d.cfg.Observer.Expired(sink, n)
		d.log.Warn("dead letters have expired: the retention keeps no more", "sink", sink, "number", n)
	}
	clear(d.m.expired)
}

// reportTurns logs what breakers do.
func (d *Dispatcher) reportTurns(now time.Time) {
	for _, turn := range d.m.turns {
		s := turn.sink
		switch {
		case turn.to == breakerClosed:
			d.log.Info("the breaker of a sink closes: deliveries go on", "sink", s.name, "owed", s.owed)
		case turn.from == breakerClosed:
			d.log.Warn("the breaker of a sink opens: it seems to be down, its deliveries are held back",
				"sink", s.name, "owed", s.owed, "next_probe_in", turn.until.Sub(now).Round(time.Second).String(), "error", turn.err)
		default:
			d.log.Warn("a sink still seems to be down: its breaker stays open",
				"sink", s.name, "owed", s.owed, "next_probe_in", turn.until.Sub(now).Round(time.Second).String(), "error", turn.err)
		}
	}
	clear(d.m.turns)
	d.m.turns = d.m.turns[:0]
}

var errFinalCommit = errors.New("the last commit failed: what was delivered since the one before will be delivered again")
