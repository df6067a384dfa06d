package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"keyhook/test/lab"
)

// BenchmarkJetStream reports messages a second while a backlog is drained to a
// stream, against a client that publishes the same messages asynchronously: with
// the bodies and headers that keyhook has sent, to subjects as long and as many.
func BenchmarkJetStream(b *testing.B) {
	r := setUp(b)
	js, url := r.bus()

	var both [2][]float64
	for round := range *rounds {
		prefix := fmt.Sprintf("/bus/%d/", round)
		first := r.fill(prefix)
		ours := r.stream(js, "OURS", "ours.>")
		k := r.keyhookTo(url, prefix, fmt.Sprint(first))
		k.Start()
		drained := r.stored(ours)
		_, peak := k.Memory()
		if code := k.Stop(); code != 0 {
			r.Errorf("keyhook ended with code %d", code)
		}
		bare := r.stream(js, "BARE", "bare.>")
		r.must(publishAll(r.Context(), js, r.sample(ours), *backlog))
		published := r.stored(bare)
		r.must(js.DeleteStream(r.Context(), "OURS"))
		r.must(js.DeleteStream(r.Context(), "BARE"))
		r.Logf("round %d: keyhook %.0f/s, bare publisher %.0f/s, ratio %.2f, memory %d MiB, %s",
			round, drained, published, drained/published, peak>>20, cost(k))
		both[0], both[1] = append(both[0], drained), append(both[1], published)
	}
	ours, bare := median(both[0]), median(both[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours, "keyhook/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(ours/bare, "ratio")
}

// pending is how many messages the bare publisher has on their way.
const pending = 256

// bus starts a nats-server and returns a client of it, and its address.
func (r *rig) bus() (jetstream.JetStream, string) {
	r.Helper()
	server, err := lab.BuildNATS(r.Context(), r.TempDir())
	r.must(err)
	bus := lab.StartNATS(r.B, server)
	js, err := jetstream.New(bus.Connect(), jetstream.WithPublishAsyncMaxPending(pending))
	r.must(err)
	return js, bus.URL
}

// keyhookTo configures keyhook to publish what happens below prefix to streams of
// the server at url, beginning as start says.
func (r *rig) keyhookTo(url, prefix, start string) *lab.Keyhook {
	r.Helper()
	return r.keyhookWith(start, fmt.Sprintf(`
sinks:
  - name: bus
    nats: {url: %q, jetstream: true}
rules:
  - name: all
    keys: %s{path...}
    send: {sink: bus, subject: '"ours." + nats.token(event.key)'}
`, url, prefix))
}

func (r *rig) stream(js jetstream.JetStream, name, subject string) jetstream.Stream {
	r.Helper()
	s, err := js.CreateStream(r.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}})
	r.must(err)
	return s
}

// stored waits until a stream holds the backlog, once, and returns how many
// messages a second came in.
func (r *rig) stored(s jetstream.Stream) float64 {
	r.Helper()
	var state jetstream.StreamState
	r.must(lab.Poll(r.Context(), func() (bool, error) {
		info, err := s.Info(r.Context())
		if err != nil {
			return true, err
		}
		if state = info.State; state.Msgs < uint64(*backlog) {
			return false, errors.New("not all is there")
		}
		return true, nil
	}))
	if state.Msgs != uint64(*backlog) {
		r.Errorf("%d messages of %d changes", state.Msgs, *backlog)
	}
	return float64(state.Msgs-1) / state.LastTime.Sub(state.FirstTime).Seconds()
}

// sample returns some messages of a stream.
func (r *rig) sample(s jetstream.Stream) (msgs []jetstream.Msg) {
	r.Helper()
	consumer, err := s.OrderedConsumer(r.Context(), jetstream.OrderedConsumerConfig{})
	r.must(err)
	batch, err := consumer.Fetch(samples)
	r.must(err)
	for msg := range batch.Messages() {
		msgs = append(msgs, msg)
	}
	r.must(batch.Error())
	return msgs
}

// like returns the i-th message of a backlog for the stream of the bare client:
// a sample's body and headers, the subject that keyhook makes of the key, and an
// id of its own.
func like(sample jetstream.Msg, i, n int) *nats.Msg {
	subject := sample.Subject()[len("ours") : len(sample.Subject())-len("000000")]
	msg := nats.NewMsg(fmt.Sprintf("bare%s%06d", subject, i%(n/10)))
	msg.Data = sample.Data()
	for name, values := range sample.Headers() {
		msg.Header[name] = values
	}
	id, _, _ := strings.Cut(sample.Headers().Get(jetstream.MsgIDHeader), "-") // the revision
	msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s-%032x", id, i))
	return msg
}

// publishAll publishes n messages and waits until all of them are acknowledged.
func publishAll(ctx context.Context, js jetstream.JetStream, samples []jetstream.Msg, n int) error {
	acks := make(chan jetstream.PubAckFuture, pending)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for ack := range acks {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(acks)
		for i := range n {
			ack, err := js.PublishMsgAsync(like(samples[i%len(samples)], i, n))
			if err != nil {
				return err
			}
			select {
			case acks <- ack:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return group.Wait()
}
