package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"keyhook"
	"keyhook/checkpoint"
)

// reading is up to when the history of each range is known to have been read.
//
// A sight is a revision and a moment: everything that was committed before the
// moment is in revisions up to that one. A range whose position has passed the
// revision has therefore been read up to the moment.
type reading struct {
	all     bool // everything is always read up to now
	ranges  []readRange
	sights  []sight // that some range has not reached, ascending
	asked   instant // the moment of the last sight
	changed bool
}

type readRange struct {
	checkpoint.RangeState
	until instant
}

type sight struct {
	revision int64
	at       instant
}

// maxSights bounds those that are remembered: of more, the last one counts.
const maxSights = 16

// states takes what a batch says of ranges.
func (r *reading) states(all []checkpoint.RangeState) {
	epoch := r.epoch()
	known := r.ranges
	r.ranges = make([]readRange, 0, len(all))
	for i := range all {
		until := past
		if at := slices.IndexFunc(known, func(k readRange) bool { return k.Range.Equal(all[i].Range) }); at >= 0 {
			until = known[at].until
		}
		r.ranges = append(r.ranges, readRange{all[i], until})
	}
	if r.epoch() != epoch {
		// Revisions are counted anew.
		r.sights, r.asked = nil, past
		r.changed = true
	}
	r.reach()
}

func (r *reading) epoch() (epoch uint64) {
	for i := range r.ranges {
		epoch = max(epoch, r.ranges[i].Epoch)
	}
	return epoch
}

// top returns the highest revision that was read.
func (r *reading) top() (revision int64) {
	for i := range r.ranges {
		revision = max(revision, r.ranges[i].Position.Revision())
	}
	return revision
}

// see takes a sight: revision was read linearizably, and the reading began at a
// moment when top was the highest revision that had been admitted. One that is
// below is of another history, and says nothing.
func (r *reading) see(s sight, top int64) {
	if s.revision < top {
		return
	}
	r.asked = max(r.asked, s.at)
	if len(r.sights) == maxSights {
		r.sights = r.sights[:maxSights-1]
	}
	r.sights = append(r.sights, s)
	r.reach()
}

// reach lets sights count for the ranges that have come to them.
func (r *reading) reach() {
	if len(r.sights) == 0 {
		return
	}
	epoch, last := r.epoch(), r.sights[len(r.sights)-1].at
	waiting := false
	for i := range r.ranges {
		k := &r.ranges[i]
		if k.Seed != nil || k.Repair != nil || k.Epoch < epoch {
			waiting = true
			continue
		}
		for _, s := range r.sights {
			if s.revision <= k.Position.Revision() && s.at > k.until {
				k.until, r.changed = s.at, true
			}
		}
		waiting = waiting || k.until < last
	}
	if !waiting {
		r.sights = r.sights[:0]
	}
}

// until returns the moment up to which all that may concern keys in watches has
// been read; nil: in any range. It reports false if none of it is watched.
func (r *reading) until(watches []keyhook.Range) (until instant, watched bool) {
	if r.all {
		return never, true
	}
	if len(r.ranges) == 0 {
		return past, true // nothing is known yet
	}
	until = never
	for i := range r.ranges {
		k := &r.ranges[i]
		if watches == nil || slices.ContainsFunc(watches, func(w keyhook.Range) bool { return overlap(w, k.Range) }) {
			until, watched = min(until, k.until), true
		}
	}
	return until, watched
}

func overlap(a, b keyhook.Range) bool {
	return (len(a.End) == 0 || bytes.Compare(b.Start, a.End) < 0) && (len(b.End) == 0 || bytes.Compare(a.Start, b.End) < 0)
}

const (
	// lookPause is between two sights at least.
	lookPause = 50 * time.Millisecond
	// lookRetry is after one that failed, at most.
	lookRetry = 2 * time.Second
)

// look asks etcd how far it is, whenever something is due that only goes out
// when all that was committed before has been read. It returns when ctx ends.
func (d *Dispatcher) look(ctx context.Context) {
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(lookPause), backoff.WithMaxInterval(lookRetry), backoff.WithMaxElapsedTime(0),
	)
	for {
		select {
		case <-d.looks:
		case <-ctx.Done():
			return
		}
		pause := lookPause
		if err := d.lookOnce(ctx); err != nil {
			pause = bo.NextBackOff()
			notify(d.looks)
		} else {
			bo.Reset()
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

var errOtherHistory = errors.New("etcd has fewer revisions than were read of it")

func (d *Dispatcher) lookOnce(ctx context.Context) error {
	d.mu.Lock()
	at := d.moment(time.Now()).now
	top := d.m.reading.top()
	wanted := d.m.unread()
	d.mu.Unlock()
	if !wanted {
		return nil
	}
	revision, err := d.cfg.Head(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.m.reading.see(sight{revision, at}, top)
	d.mu.Unlock()
	d.wake()
	if revision < top {
		return errOtherHistory
	}
	return nil
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
