package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyhook/checkpoint"
)

// commitState is where the committer stands.
type commitState struct {
	running *checkpoint.Commit // being committed, or to be tried again
	since   time.Time          // of the oldest work in it
	retryAt time.Time          // when running is tried again; zero while it is being committed
	wait    time.Duration

	pendingSince time.Time // of the oldest work that is not in running
	paced        bool      // intake was held back since the last cut
	settling     time.Time // until when a cut waits for deliveries to be settled; zero: it does not
	last         time.Time // success
	err          error     // of the last try
	stalled      bool
}

// settleShare of the interval is how long a cut waits, while a backlog is drained,
// for what was admitted to be settled: what is, is never written.
const settleShare = 2

// committed is the end of one try.
type committed struct {
	err  error
	took time.Duration
}

// commitRetry paces the tries of a commit that fails.
var commitRetry = Retry{Initial: 100 * time.Millisecond, Multiplier: 2, Max: 2 * time.Second}

// committer makes one commit at a time until its input ends.
func (d *Dispatcher) committer(ctx context.Context) {
	for c := range d.commits {
		began := time.Now()
		err := d.cfg.Store.Commit(ctx, c)
		d.commitDone <- committed{err, time.Since(began)}
	}
}

// nextCommit begins a commit if it is time for one, and returns when to look
// again (zero: when something happens). mu is held.
func (d *Dispatcher) nextCommit(now time.Time, final bool) time.Time {
	cs := &d.commit
	if d.m.pend.empty() {
		cs.pendingSince, cs.paced, cs.settling = time.Time{}, false, time.Time{}
	} else if cs.pendingSince.IsZero() {
		cs.pendingSince = now
	}
	switch {
	case cs.running != nil && cs.retryAt.IsZero():
		if behind := cs.since.Add(d.cfg.StallAfter); now.Before(behind) {
			return behind
		}
		return time.Time{}
	case cs.running != nil:
		if now.Before(cs.retryAt) {
			return cs.retryAt
		}
		cs.retryAt = time.Time{}
		d.commits <- cs.running
		return time.Time{}
	case d.m.pend.empty():
		return time.Time{}
	}
	// The interval counts from the first thing to say: most of what comes with it
	// will have succeeded by then, and is never written.
	at := cs.pendingSince.Add(d.cfg.CommitInterval)
	if now.Before(at) && !final && len(d.waiters) == 0 && d.m.pend.bytes < d.cfg.UncommittedBudget/2 {
		return at
	}
	if until := at.Add(d.cfg.CommitInterval / settleShare); cs.paced && !final && now.Before(until) && d.m.busy() {
		cs.settling = until
		return until
	}
	cs.running, cs.since, cs.pendingSince = d.m.cut(), cs.pendingSince, time.Time{}
	cs.paced, cs.settling = false, time.Time{}
	d.commits <- cs.running
	return cs.since.Add(d.cfg.StallAfter)
}

// endCommit takes the end of a try. An error means that this dispatcher must
// not go on. mu is held.
func (d *Dispatcher) endCommit(now time.Time, done committed) error {
	cs := &d.commit
	d.cfg.Observer.Committed(done.took, done.err)
	if errors.Is(done.err, checkpoint.ErrFenced) {
		return fmt.Errorf("shard %d: %w", d.cfg.Shard, done.err)
	}
	if done.err != nil {
		// The outcome is unknown: the same commit again is without effect where
		// it was done after all.
		cs.wait = commitRetry.next(cs.wait)
		cs.retryAt = now.Add(cs.wait)
		if cs.err == nil {
			d.log.Error("a commit failed: sending and intake stop until it succeeds", "error", done.err)
		}
		cs.err = done.err
		return nil
	}
	if cs.err != nil {
		d.log.Info("commits succeed again: sending and intake go on")
	}
	cs.running, cs.err, cs.wait, cs.last = nil, nil, 0, now
	d.m.committed(d.moment(now))
	kept := d.waiters[:0]
	for _, w := range d.waiters {
		if w.sequence <= d.m.durableSequence {
			close(w.durable)
		} else {
			kept = append(kept, w)
		}
	}
	clear(d.waiters[len(kept):])
	d.waiters = kept
	return nil
}

// judge decides whether sending and intake may go on: not while a commit fails,
// nor while one has fallen behind. mu is held.
func (d *Dispatcher) judge(now time.Time) bool {
	cs := &d.commit
	behind := cs.running != nil && now.Sub(cs.since) >= d.cfg.StallAfter
	if behind && !cs.stalled && cs.err == nil {
		d.log.Error("a commit has fallen behind: sending and intake stop until it is done", "since", now.Sub(cs.since))
	}
	if cs.stalled && !behind && cs.err == nil {
		d.log.Info("commits keep up again")
	}
	cs.stalled = behind || cs.err != nil
	return !cs.stalled
}
