package dispatcher_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
	"keyhook/sinks"
)

// letters returns the dead letters of the store.
func letters(t *testing.T, s checkpoint.Store) (all []checkpoint.DeadLetter) {
	t.Helper()
	for dl, err := range s.DeadLetters(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, dl)
	}
	return all
}

// refs returns the places of what is owed.
func refs(t *testing.T, s checkpoint.Store) (all []checkpoint.Ref) {
	t.Helper()
	for o, err := range s.Owed(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Ref)
	}
	return all
}

func did(t *testing.T, what string, n int, err error, want int) {
	t.Helper()
	if err != nil || n != want {
		t.Fatalf("%s: %d, %v, want %d", what, n, err, want)
	}
}

// What an operator asks for at night, without any sink: the same that the
// running process does.
func TestOrdersAreDurableWhetherOrNotThereAreSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		first := &receiver{answer: func(_ context.Context, d *keyhook.Delivery) error {
			if d.ID[0] == 'x' {
				return &sinks.Error{Kind: sinks.Rejected, Err: errors.New("422")}
			}
			return errors.New("500")
		}}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: first}}})
		admit(t, d, "a1", "b1", "x1", "x2", "a2")
		pass(time.Second / 2)
		flush(t, d)
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		dead := letters(t, store)
		if len(dead) != 2 || dead[0].Delivery.ID != "x1" || owed(t, store) != 3 {
			t.Fatalf("dead %v, owed %d", dead, owed(t, store))
		}

		offline := start(t, dispatcher.Config{Store: store})
		if err := offline.Pause(t.Context(), "nobody"); !errors.Is(err, dispatcher.ErrUnknownSink) {
			t.Fatalf("pause of an unknown sink: %v", err)
		}
		if err := offline.Pause(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		all := refs(t, store)
		again := *dead[0].Delivery
		again.Message.Body = []byte("rendered again")
		n, err := offline.Requeue(t.Context(), []dispatcher.Requeue{{Number: dead[0].Number, Delivery: &again}, {Number: 99999, Delivery: &again}})
		did(t, "requeue", n, err, 1)
		n, err = offline.Discard(t.Context(), []uint64{dead[0].Number, dead[1].Number})
		did(t, "discard", n, err, 1)
		n, err = offline.Purge(t.Context(), []checkpoint.Ref{all[0], all[0], {Lane: 77, Chain: 1, Ordinal: 1}})
		did(t, "purge", n, err, 1)
		if left := len(letters(t, store)); left != 0 || owed(t, store) != 3 {
			t.Fatalf("durable: %d dead letters, %d owed", left, owed(t, store))
		}
		if st := offline.Status().Sinks[0]; !st.Paused || st.PausedSince.IsZero() || st.Owed != 3 || st.DeadLetters != 0 || st.Configured {
			t.Fatalf("status %+v", st)
		}
		if err := offline.stop(); err != nil {
			t.Fatal(err)
		}
		if err := offline.Resume(t.Context(), "s"); !errors.Is(err, dispatcher.ErrStopped) {
			t.Fatalf("resume after the stop: %v", err)
		}

		second := &receiver{}
		d = start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: second}}})
		pass(time.Hour)
		if got := second.delivered(); len(got) != 0 {
			t.Fatalf("delivered while paused: %v", got)
		}
		if err := d.Resume(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		pass(time.Hour)
		got := second.delivered()
		slices.Sort(got)
		if len(got) != 3 || !slices.Contains(got, "x1") {
			t.Fatalf("delivered %v", got)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A sink that nothing can be sent to is left alone, and everything goes when it
// is back.
func TestABreakerLeavesASinkAloneThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts atomic.Int64
		var up atomic.Bool
		r := &receiver{answer: func(context.Context, *keyhook.Delivery) error {
			attempts.Add(1)
			if up.Load() {
				return nil
			}
			return &sinks.Error{Reach: sinks.Unconnected, Err: errors.New("connection refused")}
		}}
		d := start(t, dispatcher.Config{Store: checkpointtest.NewMemory(), Sinks: []dispatcher.Sink{{
			Name: "s", Deliverer: r, Retry: dispatcher.Retry{MaxAttempts: 5}, Concurrency: 1,
		}}})
		var ids []string
		for c := 'a'; c <= 'z'; c++ {
			ids = append(ids, string(c)+"1")
		}
		admit(t, d, ids...)
		pass(time.Second / 2)
		st := d.Status().Sinks[0]
		if st.Breaker != dispatcher.BreakerOpen || time.Until(st.BreakerUntil) > 10*time.Second || time.Until(st.BreakerUntil) < 9*time.Second || attempts.Load() != 5 {
			t.Fatalf("after %d attempts: %+v", attempts.Load(), st)
		}
		pass(time.Hour)
		// Probes at 10, 30, 70 s, and then each minute.
		if n := attempts.Load(); n < 5+60 || n > 5+64 {
			t.Fatalf("%d attempts within an hour", n)
		}
		if st := d.Status().Sinks[0]; st.DeadLetters != 0 && st.DeadLetters+st.Owed != 26 {
			t.Fatalf("status %+v", st)
		}
		up.Store(true)
		pass(2 * time.Minute)
		if st := d.Status().Sinks[0]; st.Owed != 0 || st.Breaker != dispatcher.BreakerClosed {
			t.Fatalf("status %+v", st)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A reload that changes a sink closes its breaker; a restart does as well.
func TestAnotherConfigurationClosesABreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := func() *receiver {
			return &receiver{answer: func(context.Context, *keyhook.Delivery) error {
				return &sinks.Error{Reach: sinks.Unconnected, Err: errors.New("connection refused")}
			}}
		}
		store := checkpointtest.NewMemory()
		sink := dispatcher.Sink{Name: "s", Deliverer: down(), Fingerprint: "1"}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{sink}})
		admit(t, d, "a1", "b1", "c1", "d1", "e1")
		pass(time.Second / 2)
		breaker := func() string { return d.Status().Sinks[0].Breaker }
		if got := breaker(); got != dispatcher.BreakerOpen {
			t.Fatalf("the breaker is %s", got)
		}
		sink.Deliverer = down()
		d.SetSinks([]dispatcher.Sink{sink})
		if got := breaker(); got != dispatcher.BreakerOpen {
			t.Fatalf("after a reload of the same: the breaker is %s", got)
		}
		up := &receiver{}
		d.SetSinks([]dispatcher.Sink{{Name: "s", Deliverer: up, Fingerprint: "2"}})
		pass(2 * time.Second)
		if got := breaker(); got != dispatcher.BreakerClosed || len(up.delivered()) != 5 {
			t.Fatalf("after a reload of another: the breaker is %s, %v are delivered", got, up.delivered())
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// counting observes what expires.
type counting struct {
	dispatcher.Observer
	expired atomic.Int64
}

func (c *counting) Attempt(string, keyhook.Outcome, time.Duration)         {}
func (c *counting) Settled(string, string, keyhook.Outcome, time.Duration) {}
func (c *counting) Committed(time.Duration, error)                         {}
func (c *counting) Expired(_ string, n int)                                { c.expired.Add(int64(n)) }

// Dead letters expire on a system where nothing else happens.
func TestDeadLettersExpireByTheirAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		r := &receiver{answer: func(context.Context, *keyhook.Delivery) error {
			return &sinks.Error{Kind: sinks.Rejected, Err: errors.New("422")}
		}}
		c := &counting{}
		d := start(t, dispatcher.Config{
			Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}, Observer: c,
			Retention: dispatcher.Retention{MaxAge: 90 * time.Minute},
		})
		admit(t, d, "a1", "b1")
		pass(89 * time.Minute)
		if n := len(letters(t, store)); n != 2 {
			t.Fatalf("%d dead letters", n)
		}
		admit(t, d, "c1")
		pass(2 * time.Minute)
		if left := letters(t, store); len(left) != 1 || left[0].Delivery.ID != "c1" || c.expired.Load() != 2 {
			t.Fatalf("%d expired, there are %v", c.expired.Load(), left)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// Many are purged while sending goes on, and each ends once.
func TestAPurgeBesideSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		r := &receiver{answer: func(_ context.Context, d *keyhook.Delivery) error {
			pass(time.Millisecond)
			return nil
		}}
		d := start(t, dispatcher.Config{Store: store, MemoryBudget: 100_000, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}})
		if err := d.Pause(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		const n = 2000
		for i := range n {
			b := batch("a")
			b.Deliveries[0].Event.Key = []byte{byte(i % 97)}
			b.Deliveries[0].ID = string(rune('a' + i%26))
			if err := d.Admit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, d)
		all := refs(t, store)
		if len(all) != n {
			t.Fatalf("%d owed", len(all))
		}
		if err := d.Resume(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		purged := 0
		for chunk := range slices.Chunk(all, 50) {
			k, err := d.Purge(t.Context(), chunk)
			if err != nil {
				t.Fatal(err)
			}
			purged += k
		}
		pass(time.Minute)
		flush(t, d)
		// What was purged in flight may have been delivered after all.
		if got := len(r.delivered()); got+purged < n || got+purged > n+16*n/50 || purged == 0 || got == 0 || owed(t, store) != 0 {
			t.Fatalf("%d delivered, %d purged of %d, %d owed", got, purged, n, owed(t, store))
		}
		if st := d.Status().Sinks[0]; st.Owed != 0 || !st.OldestAdmitted.IsZero() {
			t.Fatalf("status %+v", st)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
