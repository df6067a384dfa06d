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

// startPool starts as many workers as may be busy at once. jobs holds as many
// again, so that handing out a job never waits.
func (d *Dispatcher) startPool(s Sink) *pool {
	p := &pool{deliverer: s.Deliverer, size: s.Concurrency, print: s.Fingerprint, jobs: make(chan *item, s.Concurrency)}
	for range s.Concurrency {
		p.workers.Go(func() {
			for it := range p.jobs {
				began := time.Now()
				err := attempt(d.work, p.deliverer, it.d)
				d.results <- result{it, err, time.Since(began)}
			}
		})
	}
	return p
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

// attempt makes one attempt. A panic in the sink is an error like any other, so
// that one delivery cannot end the process.
func attempt(ctx context.Context, sink sinks.Sink, d *keyhook.Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &sinks.Error{Kind: sinks.Rejected, Err: &panicError{v}}
		}
	}()
	errs := sink.Deliver(ctx, []*keyhook.Delivery{d})
	if len(errs) != 1 {
		return errors.New("the sink did not answer for its delivery")
	}
	if err = errs[0]; err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return &sinks.Error{Kind: sinks.Interrupted, Err: err}
	}
	return err
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
			ds, err := d.cfg.Store.Read(ctx, d.cfg.Shard, l.lane.number, l.chain, l.from, l.maxBytes)
			d.pages <- page{l, ds, err}
		}
	}
}
