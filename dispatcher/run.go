package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keyhook"
)

// Run sends and commits until ctx ends. Then it begins nothing new, gives what
// is in flight the grace, makes a last commit and returns nil. An error means
// that the dispatcher could not go on: the store was taken over by a newer
// owner, or contradicts itself.
func (d *Dispatcher) Run(ctx context.Context) error {
	var background sync.WaitGroup
	// The store is asked until the very end, whatever has ended before.
	io := context.WithoutCancel(ctx)
	background.Go(func() { d.committer(io) })
	background.Go(func() { d.loader(io) })

	d.mu.Lock()
	for _, cfg := range d.cfg.Sinks {
		if d.pools[cfg.Name] == nil && d.m.sink(cfg.Name).defined {
			d.pools[cfg.Name] = d.startPool(cfg)
		}
	}
	d.mu.Unlock()

	looking, endLooking := context.WithCancel(ctx)
	background.Go(func() { d.look(looking) })
	err := d.loop(ctx)
	endLooking()
	d.shut(&background)
	return err
}

// shut ends every goroutine. What still runs is cut off.
func (d *Dispatcher) shut(background *sync.WaitGroup) {
	d.endWork()
	d.mu.Lock()
	for name, p := range d.pools {
		delete(d.pools, name)
		d.retire(p)
	}
	d.mu.Unlock()
	close(d.loads)
	close(d.commits)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.retired.Wait()
		background.Wait()
	}()
	pages := d.pages
	for {
		select {
		case _, ok := <-pages:
			if !ok {
				pages = nil
			}
		case <-d.commitDone:
		case <-ended:
			close(d.done)
			return
		}
	}
}

// loop feeds the machine until everything is done.
func (d *Dispatcher) loop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ending := ctx.Done()
	var grace <-chan time.Time
	for {
		next, err := d.step(time.Now(), ending == nil)
		if err != nil || next.done {
			d.stop(ending)
			return err
		}
		timer.Reset(next.wait)
		select {
		case b := <-next.admissions:
			d.admit(b)
		case f := <-d.flushes:
			d.flush(f)
		case <-d.finished.arrived:
			d.takeResults()
		case p := <-d.pages:
			if err := d.takePage(p); err != nil {
				d.stop(ending)
				return err
			}
		case next.loads <- next.batch:
			d.mu.Lock()
			d.toLoad = d.toLoad[len(next.batch):]
			d.mu.Unlock()
		case done := <-d.commitDone:
			d.mu.Lock()
			err := d.endCommit(time.Now(), done)
			d.mu.Unlock()
			if err != nil {
				d.stop(ending)
				return err
			}
		case <-timer.C:
		case <-d.poke:
		case <-grace:
			d.endWork()
		case <-ending:
			ending = nil
			close(d.stopping)
			grace = time.After(d.cfg.Grace)
		}
	}
}

// stop tells callers that nothing more is taken, if they were not told before.
func (d *Dispatcher) stop(ending <-chan struct{}) {
	if ending != nil {
		close(d.stopping)
	}
}

// plan is what the loop does next.
type plan struct {
	admissions chan *Batch // nil: there is no room
	loads      chan []load // nil: nothing to load
	batch      []load
	wait       time.Duration
	done       bool
}

// step lets the machine decide, and carries out what needs no waiting.
func (d *Dispatcher) step(now time.Time, ending bool) (plan, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.moment(now)
	going := d.judge(now) && !ending
	wait := time.Hour
	sooner := func(at time.Duration) { wait = max(0, min(wait, at)) }
	if going {
		d.m.tick(t)
		if d.m.unread() {
			notify(d.looks)
		}
		d.toLoad = append(d.toLoad, d.m.nextLoads(t)...)
		sends, pause := d.m.nextSends(t)
		for _, s := range sends {
			d.pools[s.sink.name].jobs <- s.item
		}
		if pause > 0 {
			sooner(pause)
		}
		if at, ok := d.m.wake(); ok {
			sooner(time.Duration(at - t.now))
		}
		if at, ok := d.m.expires(); ok {
			sooner(at.Sub(now))
		}
	}
	d.report(now)
	d.dropSinks()
	idle := d.inFlight() == 0
	if at := d.nextCommit(now, ending && idle); !at.IsZero() {
		sooner(at.Sub(now))
	}
	p := plan{wait: wait}
	if ending {
		p.done = idle && d.commit.running == nil
		if failed := d.commit.err; idle && failed != nil && now.Sub(d.commit.since) > d.cfg.StallAfter {
			return p, fmt.Errorf("%w: %w", errFinalCommit, failed)
		}
		return p, nil
	}
	if going && d.m.uncommitted() < d.cfg.UncommittedBudget {
		hold, again := d.pace.holds(now, d.wanting.Load() > 0, d.m.saturated(now))
		if hold {
			d.commit.paced = true
			p.wait = min(p.wait, again.Sub(now), paceProgress)
		} else if d.commit.settling.IsZero() {
			p.admissions = d.admissions
		}
	}
	if len(d.toLoad) > 0 {
		p.loads, p.batch = d.loads, d.toLoad
	}
	return p, nil
}

func (d *Dispatcher) moment(now time.Time) moment {
	return moment{instant(now.Sub(d.m.start)), now}
}

func (d *Dispatcher) inFlight() (n int) {
	for _, s := range d.m.order {
		n += s.inFlight
	}
	return n
}

func (d *Dispatcher) admit(b *Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.pace.admitted(now)
	d.m.admit(d.moment(now), b)
	if len(b.Drop)+len(b.States) > 0 {
		d.ranges = mergeRanges(d.ranges, b.Drop, b.States)
		d.m.reading.states(d.ranges)
	}
}

// takeResults takes the results that there are.
func (d *Dispatcher) takeResults() {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.moment(time.Now())
	for _, r := range d.finished.take() {
		s, attempt := r.item.lane.sink, r.item.retry.Attempts+1
		outcome := d.m.result(t, r.item, r.err)
		d.cfg.Observer.Attempt(s.name, outcome, r.took)
		d.noteHealth(t.wall, s, outcome, r.err)
		d.logAttempt(r, attempt, outcome)
	}
}

func (d *Dispatcher) logAttempt(r result, attempt int, outcome keyhook.Outcome) {
	if !d.log.Enabled(d.work, slog.LevelDebug) {
		return
	}
	it := r.item
	attrs := []any{
		"id", it.d.ID, "rule", it.d.Rule, "sink", it.d.Sink, "key", string(it.d.Event.Key),
		"outcome", string(outcome), "attempt", attempt, "took", r.took.String(),
	}
	if r.err != nil {
		attrs = append(attrs, "error", r.err)
	}
	d.log.Debug("attempt", attrs...)
}

func (d *Dispatcher) takePage(p page) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.err != nil {
		return fmt.Errorf("read what is owed: %w", p.err)
	}
	more, err := d.m.loaded(d.moment(time.Now()), p.load, p.ds)
	d.toLoad = append(d.toLoad, more...)
	return err
}
