package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/dispatcher"
	"keyhook/internal/telemetry"
	"keyhook/rules"
	"keyhook/watch"
)

var _ watch.Consumer = (*consumer)(nil)

// consumer evaluates what the watch reads, and admits what comes of it.
type consumer struct {
	dispatcher *dispatcher.Dispatcher
	metrics    *telemetry.Metrics
	log        *slog.Logger
	source     func() string                             // names the etcd that events come from
	evaluated  func(*keyhook.Event, []*keyhook.Delivery) // told of each change; may be nil
	results    sync.Pool                                 // of *rules.Result

	// mu is held for reading from the evaluation of a batch until it is admitted:
	// whoever holds it for writing knows that nothing of the set is on its way.
	mu  sync.RWMutex
	set *rules.Set

	samples samples
}

// replace puts another set in place, calling before while no delivery of the
// old one is on its way to the dispatcher.
func (c *consumer) replace(set *rules.Set, before func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before()
	c.set = set
}

// Admit implements [watch.Consumer].
func (c *consumer) Admit(ctx context.Context, b *watch.Batch) error {
	c.mu.RLock()
	defer c.mu.RUnlock()

	return running(ctx, c.dispatcher.Admit(ctx, &dispatcher.Batch{
		Deliveries: c.evaluate(b),
		Mirror:     b.Mirror,
		Drop:       b.Drop,
		States:     b.States,
		Durable:    b.Durable,
	}))
}

// Flush implements [watch.Consumer].
func (c *consumer) Flush(ctx context.Context) error { return running(ctx, c.dispatcher.Flush(ctx)) }

// Identify implements [watch.Consumer].
func (c *consumer) Identify(ctx context.Context, id checkpoint.Identity) error {
	return running(ctx, c.dispatcher.Identify(ctx, id))
}

// running waits for the end of the run where err says that the dispatcher has
// stopped: its own error says why, and ends the run.
func running(ctx context.Context, err error) error {
	if errors.Is(err, dispatcher.ErrStopped) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (c *consumer) evaluate(b *watch.Batch) []*keyhook.Delivery {
	if len(b.Events) == 0 && b.Gap == nil {
		return nil
	}
	source := rules.Source{Name: c.source(), Epoch: b.Epoch}
	res, ok := c.results.Get().(*rules.Result)
	if !ok {
		res = new(rules.Result)
	}
	defer c.results.Put(res)

	var owed []*keyhook.Delivery
	for e := range c.set.EvaluateBatch(source, b.Events, res) {
		c.count(res)
		owed = append(owed, res.Deliveries...)
		if c.evaluated != nil {
			c.evaluated(e, res.Deliveries)
		}
	}
	if b.Gap != nil {
		res.Reset()
		c.set.EvaluateGap(source, b.Gap, res)
		c.count(res)
		owed = append(owed, res.Deliveries...)
	}
	res.Reset()
	return owed
}

// count counts the rules that matched, and those whose conditions failed.
func (c *consumer) count(res *rules.Result) {
	for _, m := range res.Matches {
		c.metrics.Matched(m.Rule)
	}
	for _, failed := range res.Errors {
		c.failed(failed)
	}
}

// failed counts a condition that failed, and logs a sample of them.
func (c *consumer) failed(failed rules.EvalError) {
	c.metrics.RuleError(failed.Rule)
	c.samples.do(failed.Rule, func(unlogged int) {
		c.log.Warn("a condition failed and counts as not matching",
			"rule", failed.Rule, "key", string(failed.Event.Key), "revision", failed.Event.Revision, "error", failed.Err, "unlogged", unlogged)
	})
}

// sampleInterval is between two log lines about the same rule.
const sampleInterval = 10 * time.Second

// samples lets one thing in a while through for each name.
type samples struct {
	mu sync.Mutex
	of map[string]*sample
}

type sample struct {
	due      rate.Sometimes
	unlogged int
}

// do calls fn unless it did so for name a short while ago; fn is told how many
// calls were left out since.
func (s *samples) do(name string, fn func(unlogged int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[string]*sample)
	}
	one, ok := s.of[name]
	if !ok {
		one = &sample{due: rate.Sometimes{First: 1, Interval: sampleInterval}}
		s.of[name] = one
	}
	one.unlogged++
	one.due.Do(func() {
		fn(one.unlogged - 1)
		one.unlogged = 0
	})
}
