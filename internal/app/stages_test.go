package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// order collects what happens, in order.
type order struct {
	mu  sync.Mutex
	all []string
}

func (o *order) add(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, what)
}

func (o *order) check(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.all, want) {
		t.Errorf("got  %v\nwant %v", o.all, want)
	}
}

func TestStagesStopOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o order
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		s := newStages(ctx)
		for _, name := range []string{"intake", "dispatcher", "admin"} {
			s.run(func(ctx context.Context) error {
				<-ctx.Done()
				if got := context.Cause(ctx); !errors.Is(got, cause) {
					t.Errorf("%s stops for %v", name, got)
				}
				o.add(name + " stops")
				<-time.After(time.Second) // of the bubble: others would have their turn
				o.add(name + " stopped")
				return nil
			})
		}
		synctest.Wait()
		o.check(t)
		cancel(cause)
		if err := s.wait(); err != nil {
			t.Error(err)
		}
		o.check(t, "intake stops", "intake stopped", "dispatcher stops", "dispatcher stopped", "admin stops", "admin stopped")
	})
}

func TestAStageThatFailsStopsTheOthersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o order
		failure := errors.New("fenced")
		s := newStages(t.Context())
		s.run(func(ctx context.Context) error {
			<-ctx.Done()
			o.add("intake")
			return nil
		})
		s.run(func(context.Context) error { return failure })
		s.run(func(ctx context.Context) error {
			<-ctx.Done()
			o.add("admin")
			return nil
		})
		if err := s.wait(); !errors.Is(err, failure) {
			t.Errorf("got %v", err)
		}
		o.check(t, "intake", "admin")
	})
}

func TestAStageThatReturnsEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStages(t.Context())
		s.run(func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
		s.run(func(context.Context) error { return nil })
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestOneSampleOfEachNameInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s samples
		var logged []int
		log := func(unlogged int) { logged = append(logged, unlogged) }
		for range 5 {
			s.do("a", log)
		}
		s.do("b", log)
		<-time.After(sampleInterval) // of the bubble
		s.do("a", log)
		if !slices.Equal(logged, []int{0, 0, 4}) {
			t.Errorf("got %v", logged)
		}
	})
}
