package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"keyhook"
	"keyhook/checkpoint"
)

// Watcher reads the history of ranges of keys, and hands it to a [Consumer].
type Watcher struct {
	*shared

	mu      sync.Mutex
	started bool
	want    []keyhook.Range
	dirty   bool      // want has changed since it was last applied
	settled bool      // the runners are those that want asks for
	running []*runner // changed by Run only

	wake chan struct{} // of capacity 1: want has changed, or a runner has ended
}

// New returns a Watcher that does nothing until it runs.
func New(cfg Config) (*Watcher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return newWatcher(cfg, newEtcd(cfg.Client, cfg.RequestTimeout)), nil
}

func newWatcher(cfg Config, etcd history) *Watcher {
	return &Watcher{
		shared: &shared{cfg: cfg, etcd: etcd, overlay: newOverlay(), seen: newSeen(cfg.Observer), identity: newIdentity(cfg.Identity), slots: make(chan struct{}, cfg.CatchUpWatchers)},
		want:   cfg.Ranges, dirty: true, wake: make(chan struct{}, 1),
	}
}

// SetRanges changes what is watched, and returns at once; [Status.Ready] says
// when it is so. Parts of ranges that were watched keep their positions, new
// parts begin as Config.Start says, and what is not watched any more is removed
// with its part of the mirror.
func (w *Watcher) SetRanges(rs []keyhook.Range) error {
	for _, r := range rs {
		if empty(r) {
			return fmt.Errorf("the range %s holds no keys", r)
		}
	}
	want := Normalize(rs, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.EqualFunc(w.want, want, keyhook.Range.Equal) {
		return nil
	}
	w.want, w.dirty = want, true
	notify(w.wake)
	return nil
}

// Resume lets halted ranges go on where history cannot be read on, or where
// another cluster answers: they are compared with etcd, and what differs is told
// as synthetic changes. It returns the ranges that it concerns, none if nothing is
// halted.
func (w *Watcher) Resume() []keyhook.Range {
	w.mu.Lock()
	defer w.mu.Unlock()
	var resumed []keyhook.Range
	for _, r := range w.running {
		if r.resume() {
			resumed = append(resumed, r.rng)
		}
	}
	return resumed
}

// Run watches until ctx ends, and returns nil then. What keeps etcd from being
// read is in [Watcher.Status], and tried again; an error means that the consumer
// has failed. Run may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	w.mu.Lock()
	again := w.started
	w.started = true
	w.mu.Unlock()
	if again {
		return errors.New("watch: Run was called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	var probing sync.WaitGroup
	probing.Go(func() { w.probe(ctx) })
	defer probing.Wait()
	defer cancel()
	defer func() { _ = w.stop(w.running) }() // has been reported already, or is the context's

	states, err := w.resume(ctx)
	for err == nil {
		if err = w.apply(ctx, states); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
			states, err = w.gather(ctx)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// resume returns the checkpoint's ranges, with those merged that can be.
func (w *Watcher) resume(ctx context.Context) ([]checkpoint.RangeState, error) {
	states, drop, joined := merge(w.cfg.States, w.wanted())
	if len(drop) == 0 {
		return states, nil
	}
	return states, w.commit(ctx, &Batch{Drop: drop, States: joined})
}

// gather stops the runners that cannot go on as they are, and returns the states
// of the ranges that they leave behind, which are durable.
func (w *Watcher) gather(ctx context.Context) ([]checkpoint.RangeState, error) {
	want := w.wanted()
	var stop []*runner
	for _, r := range w.running {
		parts := wanted(r.rng, want)
		if ended(r) || r.finish || len(parts) != 1 || !parts[0].Equal(r.rng) {
			stop = append(stop, r)
		}
	}
	if err := w.stop(stop); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.running = slices.DeleteFunc(slices.Clone(w.running), func(r *runner) bool { return slices.Contains(stop, r) })
	w.settled = false
	w.mu.Unlock()
	var states []checkpoint.RangeState
	for _, r := range stop {
		if r.begun {
			states = append(states, r.state)
		} else {
			w.cfg.Observer.Removed(r.rng)
		}
	}
	if len(stop) == 0 {
		return states, nil
	}
	return states, w.cfg.Consumer.Flush(ctx)
}

// stop ends runners and waits for them. It returns the first failure of one.
func (w *Watcher) stop(rs []*runner) error {
	for _, r := range rs {
		r.cancel()
	}
	var failure error
	for _, r := range rs {
		<-r.done
		if failure == nil && r.err != nil && !errors.Is(r.err, errFinished) {
			failure = r.err
		}
	}
	return failure
}

func ended(r *runner) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// apply starts what want asks for and is not running. states are those of the
// ranges that were watched and are not running.
func (w *Watcher) apply(ctx context.Context, states []checkpoint.RangeState) error {
	w.mu.Lock()
	want, running := w.want, slices.Clone(w.running)
	w.dirty = false
	w.mu.Unlock()

	var active []keyhook.Range
	for _, r := range running {
		active = append(active, r.rng)
	}
	slices.SortFunc(active, func(a, b keyhook.Range) int { return bytes.Compare(a.Start, b.Start) })
	var open []keyhook.Range
	for _, r := range want {
		open = append(open, subtract(r, active)...)
	}
	p := inherit(states, open)
	if len(p.drop) > 0 {
		// What was admitted before must not be committed after the ranges are
		// gone, and a range that comes back must find the mirror empty.
		if err := w.commit(ctx, &Batch{Drop: p.drop, States: p.inward}); err != nil {
			return err
		}
		for _, r := range p.drop {
			w.overlay.forget(r)
			w.cfg.Observer.Removed(r)
		}
		w.cfg.Logger.Info("the watched ranges have changed", "removed", names(p.drop), "inherited", len(p.inward), "new", len(p.fresh))
	}
	for _, st := range slices.Concat(p.keep, p.inward, p.finish) {
		r := resumeRunner(w.shared, st)
		r.finish = slices.ContainsFunc(p.finish, func(f checkpoint.RangeState) bool { return f.Range.Equal(st.Range) })
		running = append(running, w.start(ctx, r))
	}
	for _, rng := range p.fresh {
		running = append(running, w.start(ctx, newRunner(w.shared, rng)))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.settled = running, len(p.finish) == 0
	return nil
}

func (w *Watcher) start(ctx context.Context, r *runner) *runner {
	ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		defer notify(w.wake)
		defer close(r.done)
		r.err = r.run(ctx)
	}()
	return r
}

// commit makes b durable, in a commit that holds nothing older of its ranges.
func (w *Watcher) commit(ctx context.Context, b *Batch) error {
	if err := w.cfg.Consumer.Flush(ctx); err != nil {
		return err
	}
	if err := w.cfg.Consumer.Admit(ctx, b); err != nil {
		return err
	}
	return w.cfg.Consumer.Flush(ctx)
}

func (w *Watcher) wanted() []keyhook.Range {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.want
}

func names(rs []keyhook.Range) []string {
	out := make([]string, 0, len(rs))
	for _, r := range rs {
		out = append(out, r.String())
	}
	return out
}
