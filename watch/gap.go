package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// gapError ends the reading of a range: its history cannot be read on, and the
// range is to be compared with etcd.
type gapError struct {
	reason keyhook.GapReason
	err    error // what was noticed
	// suspicion: nothing is known to be wrong here, but another range has found
	// history to be another one.
	suspicion bool
	// cluster is one that somebody has accepted in place of the known one; else 0.
	cluster uint64
}

func (e *gapError) Error() string { return e.err.Error() }

// gapOf returns the gap that err comes to, nil if the range is to be tried again
// or to stay halted. One that is being repaired does not halt again.
func (r *runner) gapOf(err error, repairing bool) *gapError {
	if g, ok := errors.AsType[*gapError](err); ok {
		return g
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return nil
	}
	accepted := r.accepted.Load()
	repair := accepted || repairing || !r.cfg.HaltOnGap
	switch {
	case e.Kind == Compacted && repair:
		return &gapError{reason: keyhook.GapCompacted, err: e.Err}
	case e.Kind == RolledBack && repair:
		return &gapError{reason: keyhook.GapRolledBack, err: e.Err}
	case e.Kind == WrongCluster && accepted:
		return &gapError{reason: keyhook.GapRolledBack, err: e.Err, cluster: e.cluster}
	default:
		return nil
	}
}

// open makes it durable that the range has a gap. What was admitted before is
// durable then, too, so that the mirror can be compared with etcd.
func (r *runner) open(ctx context.Context, g *gapError) error {
	st := r.state
	resume := g.reason == keyhook.GapDiverged
	if resume && st.Position.Admitted > 0 {
		r.divided = g // the mirror agrees with no revision before the end of this one
		return nil
	}
	epoch := st.Epoch
	if g.reason != keyhook.GapCompacted {
		var err error
		if epoch, err = r.identity.renew(ctx, r.cfg.Consumer, st.Epoch, g.cluster); err != nil {
			return r.consumerFailed(ctx, err)
		}
	}
	r.divided = nil
	r.accepted.Store(false)
	switch {
	case !r.begun:
		return nil
	case st.Seed != nil && g.reason != keyhook.GapCompacted:
		r.gapNoticed(ctx, g)
		return r.beginAgain(ctx) // nothing was watched yet
	}
	rep := checkpoint.Repair{From: st.Position.Next, At: time.Now().UTC(), Suspicion: g.suspicion}
	if st.Repair != nil { // history is another one than that which was being compared with
		rep = *st.Repair
		rep.Suspicion = rep.Suspicion && g.suspicion
	}
	rep.Reason, rep.Cursor, rep.Revision, rep.Resume = g.reason, r.rng.Start, 0, resume
	rep.Whole = rep.Whole || g.reason != keyhook.GapCompacted
	st.Epoch, st.Repair = epoch, &rep
	if !g.suspicion {
		r.gapNoticed(ctx, g)
	}
	if err := r.hand(ctx, &Batch{States: []checkpoint.RangeState{st}}, st); err != nil {
		return err
	}
	return r.flush(ctx)
}

// gapNoticed tells of a gap, once.
func (r *runner) gapNoticed(ctx context.Context, g *gapError) {
	r.mu.Lock()
	known := r.gap
	r.gap = true
	r.status.Ready, r.status.Halted, r.status.Err = false, false, nil
	r.status.LastError, r.status.LastErrorAt = g.err.Error(), time.Now()
	r.mu.Unlock()
	if !known {
		r.cfg.Observer.Gap(r.rng, g.reason)
	}
	r.cfg.Logger.ErrorContext(ctx, "a gap: history cannot be read on; what differs is found by comparing and told as synthetic changes",
		"range", r.rng.String(), "reason", string(g.reason), "position", r.state.Position.String(), "error", g.err.Error())
}

// gapRecord returns what is to be told of the repair of st, nil if nothing is.
func gapRecord(st *checkpoint.RangeState) *keyhook.Gap {
	p := st.Repair
	g := &keyhook.Gap{
		Range: st.Range, Reason: p.Reason, Epoch: st.Epoch, From: p.From, To: p.Revision,
		Created: p.Created, Changed: p.Changed, Deleted: p.Deleted, At: p.At,
	}
	if p.Suspicion && g.Differences() == 0 {
		return nil
	}
	return g
}

// identity is the history that the ranges of a watcher follow. Each range has an
// epoch of its own, because they notice one after the other that history is
// another one; this is the highest.
type identity struct {
	mu     sync.Mutex
	now    checkpoint.Identity
	raised chan struct{} // closed, and replaced, when the epoch grows

	renewing chan struct{} // of capacity 1: held by whoever makes a new one durable
}

func newIdentity(id checkpoint.Identity) *identity {
	return &identity{now: id, raised: make(chan struct{}), renewing: make(chan struct{}, 1)}
}

// get returns the identity, and a channel that is closed when its epoch grows.
func (i *identity) get() (checkpoint.Identity, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now, i.raised
}

// renew returns the epoch that a range of an older one is to follow: one that
// another range has begun already, or a new one, which is durable then. A cluster
// other than 0 takes the place of the known one.
func (i *identity) renew(ctx context.Context, c Consumer, old, cluster uint64) (uint64, error) {
	select {
	case i.renewing <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-i.renewing }()
	next, _ := i.get()
	if next.Epoch > old && (cluster == 0 || cluster == next.ClusterID) {
		return next.Epoch, nil
	}
	next.Epoch = max(next.Epoch, old+1)
	if cluster != 0 {
		next.ClusterID = cluster
	}
	if err := c.Identify(ctx, next); err != nil {
		return 0, fmt.Errorf("make the epoch %d durable: %w", next.Epoch, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = next
	close(i.raised)
	i.raised = make(chan struct{})
	return next.Epoch, nil
}
