package dispatcher

import (
	"context"
	"errors"
	"sync"
	"time"

	"keyhook"
	"keyhook/sinks"
)

// pool sends what one deliverer is asked to.
type pool struct {
	deliverer sinks.Sink
	size      int
	print     string
	jobs      chan *item
	workers   sync.WaitGroup

	failing bool // as far as the log says
}

// failingTime is how long nothing must have succeeded for a sink to fail, for the
// log: one that refuses some keys and takes others does not.
const failingTime = 3 * time.Second

// failingAttempts is how many failures in a row make a sink one from which
// little is expected.
const failingAttempts = 10

// result is how an attempt ended.
type result struct {
	item *item
	err  error
	took time.Duration
}

// finished holds the results that the loop has not taken yet: of what is in flight
// at most. They are many at a time where a sink takes batches, and where there is
// much to do; workers never wait for the loop.
type finished struct {
	arrived chan struct{} // of capacity 1: there are some

	mu    sync.Mutex
	all   []result
	taken []result // by the loop; its room is used again
}

// add hands over the end of an attempt at each of items.
func (f *finished) add(items []*item, errs []error, took time.Duration) {
	f.mu.Lock()
	for i, it := range items {
		f.all = append(f.all, result{it, errs[i], took})
	}
	f.mu.Unlock()
	notify(f.arrived)
}

// take returns what there is. It is valid until the next call.
func (f *finished) take() []result {
	clear(f.taken)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all, f.taken = f.taken[:0], f.all
	return f.taken
}

// startPool starts as many workers as may be busy at once. jobs holds as many
// deliveries, so that handing out one never waits.
func (d *Dispatcher) startPool(s Sink) *pool {
	p := &pool{deliverer: s.Deliverer, size: s.Concurrency, print: s.Fingerprint, jobs: make(chan *item, s.Concurrency)}
	batch := 1
	if b, ok := s.Deliverer.(sinks.Batcher); ok {
		batch = max(1, min(b.Batch(), s.Concurrency))
	}
	for range (s.Concurrency + batch - 1) / batch {
		p.workers.Go(func() { d.worker(p, batch) })
	}
	return p
}

// worker sends what there is, up to batch at once, until there will be no more.
func (d *Dispatcher) worker(p *pool, batch int) {
	items, ds := make([]*item, 0, batch), make([]*keyhook.Delivery, 0, batch)
	for it := range p.jobs {
		items = append(items[:0], it)
	gather:
		for len(items) < batch {
			select {
			case more, ok := <-p.jobs:
				if !ok {
					break gather
				}
				items = append(items, more)
			default:
				break gather
			}
		}
		ds = ds[:0]
		for _, it := range items {
			ds = append(ds, it.d)
		}
		began := time.Now()
		errs := attempt(d.work, p.deliverer, ds)
		d.finished.add(items, errs, time.Since(began))
		clear(items)
		clear(ds)
	}
}

// retire lets a pool finish what it has begun, then closes its deliverer.
func (d *Dispatcher) retire(p *pool) {
	close(p.jobs)
	d.retired.Go(func() {
		p.workers.Wait()
		if err := p.deliverer.Close(); err != nil {
			d.log.Warn("closing a sink", "error", err)
		}
	})
}

// attempt makes one attempt at each of ds. A panic in the sink is an error like
// any other, so that one delivery cannot end the process, nor take others with
// it.
func attempt(ctx context.Context, sink sinks.Sink, ds []*keyhook.Delivery) []error {
	errs, panicked := deliver(ctx, sink, ds)
	if panicked != nil {
		errs = make([]error, len(ds))
		for i := range ds {
			if len(ds) > 1 {
				errs[i] = attempt(ctx, sink, ds[i:i+1])[0]
				continue
			}
			errs[i] = &sinks.Error{Kind: sinks.Rejected, Err: panicked}
		}
		return errs
	}
	for i, err := range errs {
		if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			errs[i] = &sinks.Error{Kind: sinks.Interrupted, Err: err}
		}
	}
	return errs
}

func deliver(ctx context.Context, sink sinks.Sink, ds []*keyhook.Delivery) (errs []error, panicked error) {
	defer func() {
		if v := recover(); v != nil {
			panicked = &panicError{v}
		}
	}()
	errs = sink.Deliver(ctx, ds)
	if len(errs) != len(ds) {
		errs = make([]error, len(ds))
		for i := range errs {
			errs[i] = errors.New("the sink did not answer for its delivery")
		}
	}
	return errs, nil
}

// setSink takes over the configuration of one sink. mu is held.
func (d *Dispatcher) setSink(cfg Sink) {
	d.m.configure(cfg)
	old := d.pools[cfg.Name]
	if old != nil && cfg.Fingerprint != "" && old.print == cfg.Fingerprint && old.size == cfg.Concurrency {
		if old.deliverer != cfg.Deliverer {
			unused := cfg.Deliverer
			d.retired.Go(func() {
				if err := unused.Close(); err != nil {
					d.log.Warn("closing a sink", "error", err)
				}
			})
		}
		return
	}
	if old != nil {
		d.retire(old)
	}
	d.pools[cfg.Name] = d.startPool(cfg)
}

// dropSinks closes the sinks that are gone from the rule files and owe nothing
// any more. mu is held.
func (d *Dispatcher) dropSinks() {
	for _, s := range d.m.order {
		p := d.pools[s.name]
		if p == nil || s.defined || !d.m.drained(s) {
			continue
		}
		d.log.Info("a sink that was removed has delivered all that it owed", "sink", s.name)
		delete(d.pools, s.name)
		d.retire(p)
		d.m.dropSink(s)
		return // the others in the next step: the list has changed
	}
}

// noteHealth logs when a sink begins to fail, and when it is back.
func (d *Dispatcher) noteHealth(now time.Time, s *sink, outcome keyhook.Outcome, err error) {
	p := d.pools[s.name]
	if p == nil {
		return
	}
	switch outcome {
	case keyhook.Delivered:
		if p.failing {
			d.log.Info("the sink delivers again", "sink", s.name, "owed", s.owed)
		}
		p.failing = false
	case keyhook.Held:
		d.log.Error("the sink wants nothing any more: it is held, its deliveries stay owed", "sink", s.name, "owed", s.owed, "error", err)
	case keyhook.Retried:
		if !p.failing && now.Sub(s.lastDeliveredAt) >= failingTime {
			p.failing = true
			d.log.Warn("the sink fails; its deliveries are retried", "sink", s.name, "owed", s.owed, "error", err)
		}
	case keyhook.Dead, keyhook.Superseded, keyhook.Interrupted:
	}
}

// page is what was read of a cold chain.
type page struct {
	load load
	ds   []*keyhook.Delivery
	err  error
}

// loader reads cold chains until its input ends. What it has read waits for the
// machine in a short queue: memory stays bounded.
func (d *Dispatcher) loader(ctx context.Context) {
	defer close(d.pages)
	for batch := range d.loads {
		for _, l := range batch {
			ds, err := d.cfg.Store.Read(ctx, d.cfg.Shard, l.number, l.chain, l.from, l.maxBytes)
			d.pages <- page{l, ds, err}
		}
	}
}
