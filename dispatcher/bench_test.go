package dispatcher_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
)

// counter acknowledges everything at once.
type counter struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (c *counter) Deliver(_ context.Context, ds []*keyhook.Delivery) []error {
	if c.n.Add(int64(len(ds))) == c.want {
		close(c.done)
	}
	return make([]error, len(ds))
}

func (c *counter) Close() error { return nil }

// BenchmarkDispatch is the cost of one delivery without the cost of sending it:
// admission, lane, worker, settlement.
func BenchmarkDispatch(b *testing.B) {
	c := &counter{want: int64(b.N), done: make(chan struct{})}
	d, err := dispatcher.Open(b.Context(), dispatcher.Config{
		Store: checkpointtest.NewMemory(), Sinks: []dispatcher.Sink{{Name: "s", Deliverer: c}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	body := make([]byte, 1024)
	b.ReportAllocs()
	b.ResetTimer()
	for at := 0; at < b.N; {
		batch := &dispatcher.Batch{}
		for range min(500, b.N-at) {
			batch.Deliveries = append(batch.Deliveries, &keyhook.Delivery{
				ID: "1", Rule: "r", Send: "s", Sink: "s",
				Event:   &keyhook.Event{Type: keyhook.Put, Key: fmt.Appendf(nil, "key-%d", at%1000), Revision: 1, Time: time.Now()},
				Message: keyhook.Message{Body: body},
			})
			at++
		}
		if err := d.Admit(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	<-c.done
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
