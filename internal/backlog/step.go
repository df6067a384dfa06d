package backlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/dispatcher"
)

// CompareGroups orders groups: the largest first, then by their names.
func CompareGroups(a, b Group) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Send, b.Send),
		cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.Reason, b.Reason))
}

// limit returns how many of a step's most are asked for.
func (j *Job) limit(most int) int {
	if j.Max > 0 {
		return min(j.Max, most)
	}
	return most
}

// note records that something was matched.
func (s *Step) note(j *Job, g groups, d *keyhook.Delivery, reason keyhook.Reason) {
	s.Matched++
	g.add(d, reason)
	if len(j.IDs) > 0 {
		s.Found = append(s.Found, d.ID)
	}
}

// Replay implements [Desk].
func (b *Backlog) Replay(ctx context.Context, j Job) (*Step, error) {
	r := replay{b: b, render: j.Render, dry: j.DryRun, defined: b.defined()}
	s, err := b.letterStep(ctx, &j, stepLetter, r.take)
	if err != nil || len(r.letters) == 0 || j.DryRun {
		return s, err
	}
	s.Done, err = b.cfg.Dispatcher.Requeue(ctx, r.letters)
	return s, err
}

// replay gathers the dead letters of a step that are to be sent again.
type replay struct {
	b           *Backlog
	render, dry bool
	defined     map[string]bool
	renderer    Renderer
	letters     []dispatcher.Requeue
	bytes       int
}

// take adds a letter, and reports whether there is room for another one.
func (r *replay) take(s *Step, l *checkpoint.DeadLetter) (more bool, err error) {
	d, err := r.again(l)
	var cannot *cannotRender
	switch {
	case errors.As(err, &cannot):
		return false, cannot.err
	case err != nil:
		s.Failed = append(s.Failed, Failure{ID: l.Delivery.ID, Error: err.Error()})
		return true, nil
	}
	if r.dry {
		s.Done++
		return true, nil
	}
	r.letters = append(r.letters, dispatcher.Requeue{Number: l.Number, Delivery: d})
	r.bytes += d.Size()
	return r.bytes < stepBytes, nil
}

// cannotRender is why no letter at all can be rendered.
type cannotRender struct{ err error }

func (e *cannotRender) Error() string { return e.err.Error() }

// again returns what is to be sent of a letter.
func (r *replay) again(l *checkpoint.DeadLetter) (*keyhook.Delivery, error) {
	d := l.Delivery
	if r.render || d.Rejected != nil {
		if r.renderer == nil {
			if r.b.cfg.Renderer == nil {
				return nil, &cannotRender{errors.New("nothing can be rendered here")}
			}
			var err error
			if r.renderer, err = r.b.cfg.Renderer(); err != nil {
				return nil, &cannotRender{err}
			}
		}
		var err error
		if d, err = r.renderer(d); err != nil {
			return nil, err
		}
	}
	if r.defined != nil && !r.defined[d.Sink] {
		return nil, fmt.Errorf("no rule file defines the sink %q any more", d.Sink)
	}
	return d, nil
}

// PurgeDeadLetters implements [Desk].
func (b *Backlog) PurgeDeadLetters(ctx context.Context, j Job) (*Step, error) {
	var numbers []uint64
	s, err := b.letterStep(ctx, &j, stepPurge, func(_ *Step, l *checkpoint.DeadLetter) (bool, error) {
		numbers = append(numbers, l.Number)
		return true, nil
	})
	if err != nil || len(numbers) == 0 {
		return s, err
	}
	if s.Done = len(numbers); j.DryRun {
		return s, nil
	}
	s.Done, err = b.cfg.Dispatcher.Discard(ctx, numbers)
	return s, err
}

// letterStep looks at dead letters, and hands those that are selected to take,
// until that has enough or the step is full.
func (b *Backlog) letterStep(ctx context.Context, j *Job, most int, take func(*Step, *checkpoint.DeadLetter) (bool, error)) (*Step, error) {
	state, err := b.open(ctx, j)
	if err != nil {
		return nil, err
	}
	at := letterCursor{Until: state.NextDeadLetter}
	if j.Cursor != "" {
		if at, err = parseLetterCursor(j.Cursor); err != nil {
			return nil, err
		}
	}
	s, g, read, full := &Step{}, groups{}, 0, false
	for _, n := range state.DeadLetters {
		s.Total += int64(n)
	}
	for l, err := range b.cfg.Store.DeadLetters(ctx, b.cfg.Shard, at.From) {
		switch {
		case err != nil:
			return nil, fmt.Errorf("read the dead letters: %w", err)
		case l.Number >= at.Until:
			s.Groups = g.list()
			return s, nil
		case full || s.Seen == stepSeen || read > stepRead:
			at.From = l.Number
			s.Cursor, s.Groups = at.String(), g.list()
			return s, nil
		}
		s.Seen++
		read += l.Delivery.Size()
		if !j.letter(&l.DeadLetter) {
			continue
		}
		s.note(j, g, l.Delivery, l.Reason)
		more, err := take(s, &l)
		if err != nil {
			return nil, err
		}
		full = !more || s.Matched == j.limit(most)
	}
	s.Groups = g.list()
	return s, nil
}

// PurgeOwed implements [Desk].
func (b *Backlog) PurgeOwed(ctx context.Context, j Job) (*Step, error) {
	s, refs, err := b.owedStep(ctx, &j)
	if err != nil || len(refs) == 0 {
		return s, err
	}
	if s.Done = len(refs); j.DryRun {
		return s, nil
	}
	s.Done, err = b.cfg.Dispatcher.Purge(ctx, refs)
	return s, err
}

// owedStep looks at owed deliveries, and returns those that are selected.
func (b *Backlog) owedStep(ctx context.Context, j *Job) (*Step, []checkpoint.Ref, error) {
	state, err := b.open(ctx, j)
	if err != nil {
		return nil, nil, err
	}
	at := owedCursor{Until: state.NextOrdinal}
	if j.Cursor != "" {
		if at, err = parseOwedCursor(j.Cursor); err != nil {
			return nil, nil, err
		}
	}
	s, g, read := &Step{}, groups{}, 0
	for _, k := range b.cfg.Dispatcher.Status().Sinks {
		s.Total += k.Owed + k.Waiting
	}
	var refs []checkpoint.Ref
	names := lanesOf(state)
	for a, err := range b.cfg.Store.Deliveries(ctx, b.cfg.Shard, at.From) {
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("read what is owed: %w", err)
		case s.Matched == j.limit(stepPurge) || s.Seen == stepSeen || read > stepRead:
			at.From = refOf(&a)
			s.Cursor, s.Groups = at.String(), g.list()
			return s, refs, nil
		}
		read += a.Delivery.Size()
		if a.Delivery.Retry.Stage.Marker() {
			continue
		}
		s.Seen++
		names.today(&a)
		if a.Delivery.Ordinal < at.Until && j.owed(a.Delivery) {
			s.note(j, g, a.Delivery, "")
			refs = append(refs, refOf(&a))
		}
	}
	s.Groups = g.list()
	return s, refs, nil
}

// open checks a job, and returns the checkpoint with all that was admitted
// before it began.
func (b *Backlog) open(ctx context.Context, j *Job) (*checkpoint.State, error) {
	if err := j.Check(); err != nil {
		return nil, &InvalidError{err}
	}
	if j.Max < 0 {
		return nil, &InvalidError{errors.New("a maximum below 0")}
	}
	if j.Cursor == "" {
		if err := b.settle(ctx); err != nil {
			return nil, err
		}
	}
	state, err := b.cfg.Store.Load(ctx, b.cfg.Shard)
	if err != nil {
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	}
	return state, nil
}
