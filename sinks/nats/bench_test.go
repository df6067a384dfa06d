package nats_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks/nats"
)

// BenchmarkJetStream holds the sink against a bare asynchronous publisher that
// sends the same bodies to the same stream.
func BenchmarkJetStream(b *testing.B) {
	server := natstest.Start(b, nil)
	js, err := jetstream.New(server.Client(), jetstream.WithPublishAsyncMaxPending(nats.DefaultMaxPending))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{
		Name: "BENCH", Subjects: []string{"bench"}, MaxMsgs: 100_000, Storage: jetstream.MemoryStorage,
	}); err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 1024)
	var ids atomic.Int64

	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			m := &natsgo.Msg{Subject: "bench", Data: body, Header: natsgo.Header{"Nats-Msg-Id": {strconv.FormatInt(ids.Add(1), 10)}}}
			if _, err := js.PublishMsgAsync(m); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	})
	sink, err := nats.New(nats.Config{URL: server.URL(), JetStream: true})
	if err != nil {
		b.Fatal(err)
	}
	defer sink.Close()
	delivery := func() *keyhook.Delivery {
		return &keyhook.Delivery{ID: strconv.FormatInt(ids.Add(1), 10), Message: keyhook.Message{Subject: "bench", Body: body}}
	}
	for _, shape := range []struct{ callers, size int }{{16, 1}, {64, 1}, {256, 1}, {1024, 1}, {16, 16}, {16, 256}} {
		size := shape.size
		b.Run(fmt.Sprintf("%d callers, slices of %d", shape.callers, size), func(b *testing.B) {
			b.SetParallelism(max(shape.callers/runtime.GOMAXPROCS(0), 1))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for ds := make([]*keyhook.Delivery, 0, size); ; ds = ds[:0] {
					for len(ds) < size && pb.Next() {
						ds = append(ds, delivery())
					}
					if len(ds) == 0 {
						return
					}
					for _, err := range sink.Deliver(b.Context(), ds) {
						if err != nil {
							b.Error(err)
							return
						}
					}
				}
			})
		})
	}
}
