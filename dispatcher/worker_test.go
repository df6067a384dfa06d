package dispatcher_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
)

func TestAPanicInASinkCostsOneDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		r := &receiver{answer: func(_ context.Context, d *keyhook.Delivery) error {
			if d.ID == "a1" {
				panic("boom")
			}
			return nil
		}}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}})
		admit(t, d, "a1", "a2")
		synctest.Wait()
		flush(t, d)
		synctest.Wait()
		equal(t, "delivered", r.delivered(), []string{"a2"})
		flush(t, d)
		var reasons []keyhook.Reason
		for dl, err := range store.DeadLetters(t.Context(), 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, dl.Reason)
		}
		equal(t, "reasons", reasons, []keyhook.Reason{keyhook.ReasonPanic})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASinkThatIsRemovedDeliversWhatItOwesThenCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := make(chan struct{})
		old := &receiver{answer: func(context.Context, *keyhook.Delivery) error {
			select {
			case <-up:
				return nil
			default:
				return errors.New("503")
			}
		}}
		store := checkpointtest.NewMemory()
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: old}}})
		admit(t, d, "a1", "a2")
		synctest.Wait()
		d.SetSinks(nil)
		pass(time.Minute)
		if old.closed {
			t.Fatal("closed while it owes something")
		}
		close(up)
		pass(10 * time.Minute)
		equal(t, "delivered", old.delivered(), []string{"a1", "a2"})
		if !old.closed {
			t.Fatal("not closed after the last delivery")
		}
		if st := d.Status(); len(st.Sinks) != 0 {
			t.Fatalf("still known: %+v", st.Sinks)
		}
		st, err := store.Load(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Lanes) != 0 {
			t.Fatalf("lanes are left: %v", st.Lanes)
		}
		d.SetSinks([]dispatcher.Sink{{Name: "s", Deliverer: old}})
		admit(t, d, "b1")
		synctest.Wait()
		equal(t, "after it is back", old.delivered(), []string{"a1", "a2", "b1"})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAReloadReplacesASinkOnlyIfItChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, same, other := &receiver{}, &receiver{}, &receiver{}
		d := start(t, dispatcher.Config{Store: checkpointtest.NewMemory(), Sinks: []dispatcher.Sink{{Name: "s", Deliverer: first, Fingerprint: "1"}}})
		synctest.Wait()
		d.SetSinks([]dispatcher.Sink{{Name: "s", Deliverer: same, Fingerprint: "1"}})
		admit(t, d, "a1")
		synctest.Wait()
		d.SetSinks([]dispatcher.Sink{{Name: "s", Deliverer: other, Fingerprint: "2"}})
		admit(t, d, "a2")
		synctest.Wait()
		equal(t, "first", first.delivered(), []string{"a1"})
		equal(t, "other", other.delivered(), []string{"a2"})
		if !first.closed || !same.closed || other.closed {
			t.Fatalf("closed: first %v, same %v, other %v", first.closed, same.closed, other.closed)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// batches is a sink that likes to be given several at once.
type batches struct {
	receiver
	sizes []int
}

func (b *batches) Batch() int { return 8 }

func (b *batches) Deliver(ctx context.Context, ds []*keyhook.Delivery) []error {
	b.mu.Lock()
	b.sizes = append(b.sizes, len(ds))
	b.mu.Unlock()
	for _, d := range ds {
		if d.ID[0] == 'p' {
			panic("poison")
		}
	}
	pass(time.Second)
	return b.receiver.Deliver(ctx, ds)
}

func TestASinkIsGivenSeveralAtOnceIfItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &batches{}
		store := checkpointtest.NewMemory()
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: b, Concurrency: 16}}})
		if err := d.Pause(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for c := 'a'; c <= 'z'; c++ {
			ids = append(ids, string(c)+"1", string(c)+"2")
		}
		admit(t, d, ids...)
		if err := d.Resume(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if got := b.delivered(); len(got) != 50 {
			t.Errorf("%d delivered, %v", len(got), got)
		}
		if most := slices.Max(b.sizes); most < 2 || most > 8 {
			t.Errorf("at most %d at once", most)
		}
		// One that makes the sink panic takes none with it.
		var dead []string
		for _, dl := range letters(t, store) {
			dead = append(dead, dl.Delivery.ID)
		}
		equal(t, "dead", dead, []string{"p1", "p2"})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
