package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyhook/checkpoint"
)

// What somebody asks for is durable when the method returns nil. It works
// whether or not the sink has a deliverer, and needs Run to run. An error other
// than ErrUnknownSink means that the outcome is unknown: it may still become
// durable.

// ErrUnknownSink means that no sink of that name is defined, or owed anything,
// or has dead letters.
var ErrUnknownSink = errors.New("there is no such sink")

// Pause keeps back all that a sink is owed until Resume, restarts included. What
// is in flight ends as it does.
func (d *Dispatcher) Pause(ctx context.Context, sink string) error {
	return d.order(ctx, func(t moment) error {
		if !d.m.pause(t.wall, sink) {
			return fmt.Errorf("%w: %q", ErrUnknownSink, sink)
		}
		return nil
	})
}

// Resume ends a pause, a hold (410) and an open breaker.
func (d *Dispatcher) Resume(ctx context.Context, sink string) error {
	return d.order(ctx, func(moment) error {
		if !d.m.resume(sink) {
			return fmt.Errorf("%w: %q", ErrUnknownSink, sink)
		}
		return nil
	})
}

// Requeue makes dead letters owed again, in one commit, and returns how many
// were there: the others are passed over. Each is admitted anew as its Delivery
// says, at the end of its key's chain, with the same id and no attempts. One
// whose Delivery is rejected is a dead letter again, of another number. Callers
// keep all to some MiB.
func (d *Dispatcher) Requeue(ctx context.Context, all []Requeue) (n int, err error) {
	err = d.order(ctx, func(t moment) error {
		n = d.m.requeue(t, all)
		return nil
	})
	return n, err
}

// Discard removes dead letters and returns how many were there.
func (d *Dispatcher) Discard(ctx context.Context, numbers []uint64) (n int, err error) {
	err = d.order(ctx, func(moment) error {
		n = d.m.discard(numbers)
		return nil
	})
	return n, err
}

// Purge removes deliveries that are owed, and returns how many were. What is in
// flight counts, but is delivered after all if its attempt succeeds; otherwise
// there is no other. What has not been in a commit yet is not found.
func (d *Dispatcher) Purge(ctx context.Context, refs []checkpoint.Ref) (n int, err error) {
	owed, err := d.lookup(ctx, refs)
	if err != nil {
		return 0, err
	}
	err = d.order(ctx, func(t moment) error {
		n = d.m.purge(t, owed)
		d.m.lookups--
		return nil
	})
	return n, err
}

// lookup asks the store what of refs is owed. If it succeeds, the machine keeps
// in mind what is purged until lookups is lowered again.
func (d *Dispatcher) lookup(ctx context.Context, refs []checkpoint.Ref) ([]checkpoint.Owed, error) {
	d.mu.Lock()
	d.m.lookups++
	d.mu.Unlock()
	owed, err := d.cfg.Store.Find(ctx, d.cfg.Shard, refs)
	if err != nil {
		d.mu.Lock()
		d.m.lookups--
		d.mu.Unlock()
		return nil, fmt.Errorf("read what is owed: %w", err)
	}
	return owed, nil
}

// order lets the machine decide, and waits until what it says is durable.
func (d *Dispatcher) order(ctx context.Context, decide func(moment) error) error {
	d.mu.Lock()
	err := decide(d.moment(time.Now()))
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.wake()
	return d.Flush(ctx)
}
