package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"

	"keyhook"
	"keyhook/checkpoint"
)

// shared is what the runners of a watcher have in common.
type shared struct {
	cfg      Config
	etcd     history
	overlay  *overlay
	seen     *seen
	identity *identity
	slots    chan struct{} // as many watchers catch up at once
	buffered atomic.Int64  // bytes that they have read and that are not queued
}

// runner reads one range, from its start to the end of its context.
type runner struct {
	*shared
	rng keyhook.Range
	// finish ends the runner at the end of the revision that it is in.
	finish bool

	// begun and state belong to the goroutine of run, and to whoever waits for
	// its end. Before the range has begun, state is zero.
	begun bool
	state checkpoint.RangeState
	// empty is whether the range is known to hold no key where follow begins.
	empty bool
	// divided is a gap that waits for the end of the revision that the range is in.
	divided *gapError
	doubt   doubt
	// unlisted is the revision that the range began at, if it was compacted: what
	// it changed could not be listed before.
	unlisted int64

	audits   chan *auditJob
	captures chan *captureRequest

	accepted atomic.Bool   // somebody wants the range to go on in spite of a gap
	resumed  chan struct{} // of capacity 1: accepted was set

	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	err    error         // of run

	mu     sync.Mutex
	status RangeStatus
	gap    bool // halted since it was last established
}

func newRunner(s *shared, rng keyhook.Range) *runner {
	return &runner{
		shared: s, rng: rng, done: make(chan struct{}), resumed: make(chan struct{}, 1),
		audits: make(chan *auditJob), captures: make(chan *captureRequest),
		doubt: doubt{interval: s.cfg.DoubtInterval}, status: RangeStatus{Range: rng},
	}
}

// resumeRunner returns a runner for a range whose state is durable.
func resumeRunner(s *shared, st checkpoint.RangeState) *runner {
	r := newRunner(s, st.Range)
	r.begun, r.state = true, st
	r.status.Position, r.status.Seeding, r.status.Repairing = st.Position, st.Seed != nil, st.Repair != nil
	r.cfg.Observer.Position(r.rng, st.Position.Revision())
	if st.Repair != nil && !st.Repair.Suspicion {
		r.gap = true
		r.cfg.Observer.Gap(r.rng, st.Repair.Reason)
	}
	return r
}

// errFinished ends a runner that was to finish a revision.
var errFinished = errors.New("the revision is finished")

// consumerError is a failure of the consumer: nothing can go on.
type consumerError struct{ err error }

func (e *consumerError) Error() string { return fmt.Sprintf("admit changes: %v", e.err) }
func (e *consumerError) Unwrap() error { return e.err }

// run blocks. It returns nil when ctx ends, errFinished, or a *consumerError.
func (r *runner) run(ctx context.Context) error {
	for {
		err := r.prepare(ctx)
		if err == nil && r.finish && r.state.Position.Admitted == 0 {
			return errFinished
		}
		if err == nil {
			err = r.follow(ctx)
		}
		if gap, ok := errors.AsType[*gapError](err); ok && ctx.Err() == nil {
			err = r.open(ctx, gap)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
	}
}

// prepare brings the range to where its watch begins. It tries until ctx ends.
func (r *runner) prepare(ctx context.Context) error {
	bo := r.newBackoff()
	for {
		err := r.seed(ctx)
		if err == nil {
			err = r.repair(ctx)
		}
		if _, fatal := errors.AsType[*consumerError](err); err == nil || fatal {
			return err
		}
		if gap := r.gapOf(err, r.begun && r.state.Repair != nil); gap != nil && ctx.Err() == nil {
			if err := r.open(ctx, gap); err != nil {
				return err
			}
			continue
		}
		if err := r.pause(ctx, err, bo); err != nil {
			return err
		}
	}
}

// follow watches. One goroutine receives and one admits; one audits, and one looks
// whether history has become another one for another range. A gapError ends it
// when all that was received is admitted.
func (r *runner) follow(ctx context.Context) error {
	id, raised := r.identity.get()
	if r.state.Epoch < id.Epoch && r.divided == nil {
		return suspicious()
	}
	if err := r.recall(ctx); err != nil {
		return err
	}
	q := newQueue(r.cfg.QueueBytes)
	rd := &reader{pos: r.state.Position, anchor: r.state.Anchor}
	g, ctx := errgroup.WithContext(ctx)
	receiving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	g.Go(func() error {
		err := r.receive(receiving, q, rd)
		gap, ok := errors.AsType[*gapError](err)
		if !ok && errors.As(context.Cause(receiving), &gap) && ctx.Err() == nil {
			ok = true
		}
		if !ok {
			return err
		}
		q.close(gap)
		return nil
	})
	g.Go(func() error {
		defer stop(nil)
		return r.admit(ctx, q)
	})
	if r.divided == nil {
		g.Go(func() error {
			select {
			case <-raised:
				stop(suspicious())
			case <-receiving.Done():
			}
			return nil
		})
		g.Go(func() error {
			stop(r.auditing(receiving))
			return nil
		})
	}
	return g.Wait()
}

func suspicious() *gapError {
	return &gapError{reason: keyhook.GapDiverged, suspicion: true, err: errors.New("history was found to be another one in another range")}
}

// admit hands what was queued to the consumer. It returns when ctx ends, or with
// errFinished, a *gapError, or a *consumerError.
func (r *runner) admit(ctx context.Context, q *queue) error {
	a := &assembler{lookup: r.lookup, maxEvents: r.cfg.BatchEvents, maxBytes: r.cfg.BatchBytes, unlisted: r.unlisted}
	a.reset(r.state)
	for {
		it, err := r.take(ctx, q)
		if err != nil {
			return err
		}
		for ok := true; ok; {
			if err := r.fill(ctx, a, &it); err != nil {
				return err
			}
			q.release(it.bytes)
			if ok = !a.full(); ok {
				it, ok, _ = q.tryPop() // the end comes again when it is waited for
			}
		}
		if err := r.emit(ctx, a); err != nil {
			return err
		}
		if r.state.Position.Admitted > 0 {
			continue
		}
		switch {
		case r.finish:
			return errFinished
		case r.divided != nil:
			return r.divided
		}
	}
}

// take waits for an item. Between two batches it answers audits.
func (r *runner) take(ctx context.Context, q *queue) (item, error) {
	captures := r.captures
	if r.state.Position.Admitted > 0 {
		captures = nil // the mirror agrees with no revision
	}
	select {
	case req := <-captures:
		r.answer(ctx, req)
	default:
	}
	for {
		it, ok, err := q.tryPop()
		if ok || err != nil {
			return it, err
		}
		select {
		case <-q.arrived:
		case req := <-captures:
			r.answer(ctx, req)
		case <-ctx.Done():
			return item{}, ctx.Err()
		}
	}
}

// fill adds the changes of it to the batch, and admits batches that are full.
// Only a few last values are in memory at once, however large the revision is.
func (r *runner) fill(ctx context.Context, a *assembler, it *item) error {
	anchor, whole := it.before, (*mvccpb.Event)(nil)
	known := 0 // before which change the mirror was asked
	for i, c := range it.changes {
		if a.full() && i > 0 && a.divisible() {
			if whole != nil {
				anchor, whole = anchorAfter(anchor, whole), nil
			}
			a.state.Anchor = anchor
			if err := r.emit(ctx, a); err != nil {
				return err
			}
			known = i
		}
		if i == known {
			n, err := r.lookAhead(ctx, a, it.changes[i:])
			if err != nil {
				return err
			}
			known += n
		}
		if err := a.add(ctx, c, it.received); err != nil {
			return err
		}
		if a.state.Position = it.behind(i); a.state.Position.Admitted == 0 {
			whole = c.ev // the last one of its revision
		}
		it.changes[i].ev = nil // held by the batch now, and released with it
	}
	a.state.Position, a.state.Anchor = it.end, it.anchor
	return nil
}

// emit admits the batch and begins the next one.
func (r *runner) emit(ctx context.Context, a *assembler) error {
	b := a.batch
	b.States = []checkpoint.RangeState{a.state}
	if err := r.handChanges(ctx, &b, a.state, a.changed); err != nil {
		return err
	}
	if a.mismatches > 0 {
		r.mismatched(ctx, a.mismatches, a.state.Position)
	}
	a.reset(a.state)
	return nil
}

// handChanges gives b to the consumer, and what it makes of the mirror to the
// overlay.
func (r *runner) handChanges(ctx context.Context, b *Batch, st checkpoint.RangeState, changes []*held) error {
	p := &pending{overlay: r.overlay, changes: changes}
	b.Durable = p.release
	if err := r.hand(ctx, b, st); err != nil {
		return err
	}
	p.add()
	return nil
}

// mismatched makes it visible that n changes before pos do not follow what was
// read before. They are delivered: to hold them back would lose more. What else
// was lost is looked for at the end of the revision.
func (r *runner) mismatched(ctx context.Context, n int, pos keyhook.Position) {
	const what = "changes do not follow what the mirror holds: earlier ones were lost, or etcd's history is another one"
	r.cfg.Observer.Mismatches(r.rng, n)
	r.cfg.Logger.ErrorContext(ctx, what, "range", r.rng.String(), "changes", n, "position", pos.String())
	r.mu.Lock()
	r.status.Mismatches += n
	r.status.LastError, r.status.LastErrorAt = fmt.Sprintf("up to position %s, %d %s", pos, n, what), time.Now()
	r.mu.Unlock()
	if r.divided == nil && !r.finish && !r.cfg.HaltOnGap && r.doubt.due(time.Now()) {
		r.divided = &gapError{reason: keyhook.GapDiverged, err: fmt.Errorf("up to position %s, %d %s", pos, n, what)}
	}
}

// hand gives b to the consumer and makes st the state of the range.
func (r *runner) hand(ctx context.Context, b *Batch, st checkpoint.RangeState) error {
	b.Epoch = st.Epoch
	if err := r.cfg.Consumer.Admit(ctx, b); err != nil {
		return r.consumerFailed(ctx, err)
	}
	r.state = st
	r.mu.Lock()
	r.status.Position, r.status.Seeding, r.status.Repairing = st.Position, st.Seed != nil, st.Repair != nil
	r.mu.Unlock()
	if st.Position.Next > 0 {
		r.cfg.Observer.Position(r.rng, st.Position.Revision())
	}
	if n := len(b.Events); n > 0 {
		r.cfg.Observer.Events(r.rng, n)
	}
	return nil
}

func (r *runner) flush(ctx context.Context) error {
	if err := r.cfg.Consumer.Flush(ctx); err != nil {
		return r.consumerFailed(ctx, err)
	}
	return nil
}

func (r *runner) consumerFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &consumerError{err}
}

// lookup returns what the mirror holds of key, or will hold.
func (r *runner) lookup(ctx context.Context, key []byte) (e *checkpoint.Entry, err error) {
	if e, ok := r.overlay.lookup(key); ok {
		return e, nil
	}
	err = r.askMirror(ctx, func() (err error) {
		e, err = r.cfg.Mirror.Lookup(ctx, r.cfg.Shard, key)
		return err
	})
	return e, err
}

// askMirror asks until it is answered, or ctx ends: without the mirror no change
// can be told rightly.
func (r *runner) askMirror(ctx context.Context, ask func() error) error {
	for bo := r.newBackoff(); ; {
		err := ask()
		if err == nil {
			return nil
		}
		if err := r.pause(ctx, mirrorFailed(r.rng, err), bo); err != nil {
			return err
		}
	}
}

// newBackoff returns delays of at most RetryMax, jitter included. An outage of
// etcd costs one read a range and attempt, so that they need not be rare.
func (r *runner) newBackoff() backoff.BackOff {
	const jitter = 0.5
	longest := time.Duration(float64(r.cfg.RetryMax) / (1 + jitter))
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(r.cfg.RetryInitial, longest)),
		backoff.WithMaxInterval(longest),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(jitter),
		backoff.WithMaxElapsedTime(0), // never gives up
	)
}

// pause reports a failure and waits as long as it asks for. An error is the
// context's.
func (r *runner) pause(ctx context.Context, err error, bo backoff.BackOff) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	delay := bo.NextBackOff()
	if e := classify(r.rng, r.cfg.Client.Username, err); r.failed(ctx, e) {
		delay = r.cfg.RecheckInterval
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.resumed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failed makes e visible, and reports whether it halts the range. Each change of
// the range's condition is logged once.
func (r *runner) failed(ctx context.Context, e *Error) (halts bool) {
	r.mu.Lock()
	changed := r.status.Err == nil || r.status.Err.Kind != e.Kind
	gap := (e.Kind == Compacted || e.Kind == RolledBack) && !r.gap
	r.gap = r.gap || gap
	r.mu.Unlock()
	if gap && e.Kind == Compacted {
		r.cfg.Observer.Gap(r.rng, keyhook.GapCompacted)
	} else if gap {
		r.cfg.Observer.Gap(r.rng, keyhook.GapRolledBack)
	}
	if changed {
		log := r.cfg.Logger.With("range", r.rng.String(), "reason", string(e.Kind), "error", e.Err.Error(), "hint", e.Hint)
		if e.Halts() {
			log.ErrorContext(ctx, "a range is halted")
		} else {
			log.WarnContext(ctx, "a range cannot be read")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Ready, r.status.Halted, r.status.Err = false, e.Halts(), e
	r.status.LastError, r.status.LastErrorAt = e.Err.Error(), time.Now()
	return e.Halts()
}

// established makes it visible that the range is being watched.
func (r *runner) established(pos keyhook.Position) {
	r.mu.Lock()
	was := r.status.Ready
	r.status.Ready, r.status.Halted, r.status.Err = true, false, nil
	r.gap = false
	r.mu.Unlock()
	r.accepted.Store(false)
	if !was {
		r.cfg.Logger.Info("watching a range", "range", r.rng.String(), "position", pos.String())
	}
}

// resume lets the range go on if it is halted by something that a comparison can
// mend.
func (r *runner) resume() bool {
	r.mu.Lock()
	halted := r.status.Halted && r.status.Err.Kind != BadStart
	r.mu.Unlock()
	if halted {
		r.accepted.Store(true)
		notify(r.resumed)
	}
	return halted
}

func (r *runner) snapshot() RangeStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}
