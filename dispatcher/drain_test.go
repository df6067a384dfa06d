package dispatcher_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
)

// While a backlog is drained there is always something that is not settled yet.
// Hardly any of it is written all the same, and the sink never waits for that.
func TestABacklogIsDrainedWithoutWritingIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		written, commits := 0, 0
		store.SetHooks(checkpointtest.Hooks{BeforeCommit: func(_ context.Context, c *checkpoint.Commit) error {
			written += len(c.Admitted)
			commits++
			return nil
		}})
		r := &receiver{answer: func(context.Context, *keyhook.Delivery) error {
			pass(time.Millisecond)
			return nil
		}}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r, Concurrency: 4}}})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var producing sync.WaitGroup
		producing.Go(func() {
			for n := 0; d.Admit(ctx, backlog(n, 100)) == nil; n += 100 {
				pass(time.Millisecond) // 100,000 a second, if it may
			}
		})
		const seconds = 4 // 4000 deliveries each
		pass(seconds * time.Second)
		cancel()
		producing.Wait()
		synctest.Wait()
		delivered := len(r.delivered())
		if delivered < seconds*4000*98/100 {
			t.Errorf("%d deliveries in %d s: the sink takes 4000 a second", delivered, seconds)
		}
		if written > delivered/20 {
			t.Errorf("%d of %d deliveries were written", written, delivered)
		}
		if commits < seconds*6 {
			t.Errorf("%d commits in %d s", commits, seconds)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// backlog is a batch of n deliveries of a key each, numbered from first.
func backlog(first, n int) *dispatcher.Batch {
	b := &dispatcher.Batch{}
	for i := range n {
		id := fmt.Sprint(first + i)
		b.Deliveries = append(b.Deliveries, &keyhook.Delivery{
			ID: id, Rule: "r", Send: "s", Sink: "s",
			Event:   &keyhook.Event{Type: keyhook.Put, Key: []byte(id), Revision: 1, Time: time.Now()},
			Message: keyhook.Message{Body: make([]byte, 4096)},
		})
	}
	return b
}
