package app

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// stages are things that run side by side and stop one after the other: when
// the run ends, by its context or because a stage has returned, the first stage
// is told to stop; once it has returned the second, and so on.
type stages struct {
	group *errgroup.Group
	stop  context.Context // done when the run ends
	end   context.CancelCauseFunc
	last  <-chan struct{} // closed when the stages so far have returned
}

// newStages returns stages that run until ctx ends.
func newStages(ctx context.Context) *stages {
	ctx, end := context.WithCancelCause(ctx)
	group, stop := errgroup.WithContext(ctx)
	first := make(chan struct{})
	close(first)
	return &stages{group: group, stop: stop, end: end, last: first}
}

// run starts a stage. Its context ends when the run does and the stages before
// it have returned, with the cause that the run ended for.
func (s *stages) run(fn func(ctx context.Context) error) {
	before, returned := s.last, make(chan struct{})
	s.last = returned

	ctx, cancel := context.WithCancelCause(context.WithoutCancel(s.stop))
	s.group.Go(func() error {
		<-s.stop.Done()
		<-before
		cancel(context.Cause(s.stop))
		return nil
	})
	s.group.Go(func() error {
		err := fn(ctx)
		s.end(err)
		<-before // those behind this stage wait for those ahead of it as well
		close(returned)
		return err
	})
}

// wait returns when all stages have, with the error of the one that failed
// first.
func (s *stages) wait() error { return s.group.Wait() }
