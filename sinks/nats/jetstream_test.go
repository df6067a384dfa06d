package nats_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

// stream makes the stream that cfg describes.
func stream(t *testing.T, server *natstest.Server, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	js, err := jetstream.New(server.Client())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.CreateOrUpdateStream(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// storedIDs returns the ids of the messages that a stream holds.
func storedIDs(t *testing.T, st jetstream.Stream) []string {
	t.Helper()
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.Header.Get("Nats-Msg-Id"))
	}
	return ids
}

// stored returns the bodies that a stream holds.
func stored(t *testing.T, st jetstream.Stream) []string {
	t.Helper()
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var bodies []string
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := st.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(m.Data))
	}
	return bodies
}

func TestJetStreamStoresEachDeliveryOnceAndInOrder(t *testing.T) {
	server := natstest.Start(t, nil)
	st := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT", MaxPending: 7})
	var ds []*keyhook.Delivery
	var want []string
	for i := range 200 {
		ds = append(ds, message(int64(i+1), "audit.a", fmt.Sprint(i)))
		want = append(want, fmt.Sprint(i))
	}
	for range 2 { // the second time they are duplicates, which is as good
		for i, err := range s.Deliver(t.Context(), ds) {
			if err != nil {
				t.Fatalf("delivery %d: %v", i, err)
			}
		}
	}
	if got := stored(t, st); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stored %q", got)
	}
	m, err := st.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("Nats-Msg-Id") != ds[0].ID || m.Header.Get("Nats-Expected-Stream") != "AUDIT" {
		t.Errorf("headers %v", m.Header)
	}
}

func TestASubjectThatNoStreamTakes(t *testing.T) {
	server := natstest.Start(t, nil)
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true})
	d := message(1, "audit.a", "x")
	wantError(t, send(t.Context(), s, d), sinks.Retry, `no stream takes the subject "audit.a"`)
	st := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	mustSend(t, s, d)
	if got := stored(t, st); len(got) != 1 {
		t.Errorf("stored %q", got)
	}
}

func TestTheExpectedStream(t *testing.T) {
	server := natstest.Start(t, nil)
	other := stream(t, server, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"audit.>"}})
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT"})
	d := message(1, "audit.a", "x")

	wantError(t, s.Check(t.Context()), sinks.Retry, "NATS cannot take messages", `the stream "AUDIT" does not exist`, "nats stream add AUDIT")
	wantError(t, send(t.Context(), s, d), sinks.Retry, `the stream "AUDIT" does not exist`)

	audit := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"somewhere.else"}})
	eventually(t, func() bool { return s.Check(t.Context()) == nil }) // a failure stands for a moment
	wantError(t, send(t.Context(), s, d), sinks.Retry, `"audit.a" belongs to another stream than "AUDIT"`)
	wantError(t, send(t.Context(), s, message(2, "nowhere", "x")), sinks.Retry, `no stream takes the subject "nowhere"`, "nats stream info AUDIT")

	stream(t, server, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}})
	stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	mustSend(t, s, d)
	if got, wrong := stored(t, audit), stored(t, other); len(got) != 1 || len(wrong) != 0 {
		t.Errorf("stored %q, and %q elsewhere", got, wrong)
	}
}

func TestJetStreamThatIsNotThere(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT"})
	wantError(t, send(t.Context(), s, message(1, "audit.a", "x")), sinks.Retry, "no stream takes")
}

// What a stream will never take is rejected, what it may take later is not.
func TestWhatAStreamRefuses(t *testing.T) {
	server := natstest.Start(t, nil)
	stream(t, server, jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small"}, MaxMsgSize: 500})
	full := stream(t, server, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: jetstream.DiscardNew})
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true})

	wantError(t, send(t.Context(), s, message(1, "small", strings.Repeat("x", 600))), sinks.Rejected, "JetStream: message size exceeds maximum allowed")
	wantError(t, send(t.Context(), s, message(2, "full", "x", keyhook.Header{Name: "X-Large", Value: strings.Repeat("x", 64<<10)})), sinks.Rejected, "header size exceeds")
	wantError(t, send(t.Context(), s, message(3, "small", "x", keyhook.Header{Name: "Nats-TTL", Value: "soon"})), sinks.Rejected, "invalid per-message TTL")

	mustSend(t, s, message(4, "full", "first"))
	d := message(5, "full", "second")
	wantError(t, send(t.Context(), s, d), sinks.Retry, "maximum messages exceeded")
	if err := full.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, d)
}

// An application that answers on a stream's subject is not the stream, and a
// stream that is not asked for is not the one.
func TestOnlyTheStreamAcknowledges(t *testing.T) {
	server := natstest.Start(t, nil)
	conn := server.Client()
	answers := []string{"", "ok", "{}", `{"stream":""}`, `{"stream":"OTHER","seq":1}`}
	reply := func(m *natsgo.Msg) {
		for _, text := range answers {
			if err := m.Respond([]byte(text)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := conn.Subscribe("both.>", reply); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	st := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"both.stored"}})
	mustSend(t, newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT"}), message(1, "both.stored", "x"))
	if got := stored(t, st); len(got) != 1 {
		t.Errorf("stored %q", got)
	}
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT", Timeout: 300 * time.Millisecond})
	connected(t, s)
	wantError(t, send(t.Context(), s, message(2, "both.lost", "x")), sinks.Retry, "not acknowledged within")
}

// A stream that takes too long has stored the message: it knows it again.
func TestASlowStream(t *testing.T) {
	server := natstest.Start(t, nil)
	st := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"stored"}})
	conn := server.Client()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	// In front of it stands one that passes messages on, and acknowledgements
	// only when it is told to.
	var fast atomic.Bool
	late := make(chan func(), 100)
	if _, err := conn.Subscribe("slow", func(m *natsgo.Msg) {
		on := natsgo.NewMsg("stored")
		on.Header, on.Data = m.Header, bytes.Clone(m.Data)
		future, err := js.PublishMsgAsync(on)
		if err != nil {
			t.Error(err)
			return
		}
		ack := <-future.Ok()
		respond := func() {
			if err := m.Respond(fmt.Appendf(nil, `{"stream":"AUDIT","seq":%d,"duplicate":%t}`, ack.Sequence, ack.Duplicate)); err != nil {
				t.Error(err)
			}
		}
		if !fast.Load() {
			late <- respond
			return
		}
		respond()
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Timeout: 300 * time.Millisecond})
	connected(t, s)
	d := message(1, "slow", "x")
	eventually(t, func() bool { // that it has been stored
		wantError(t, send(t.Context(), s, d), sinks.Retry, "the message was not acknowledged within 300ms")
		return len(late) > 0
	})
	fast.Store(true)
	(<-late)() // which nobody waits for any more
	retried(t, s, d)
	if got := stored(t, st); len(got) != 1 {
		t.Errorf("stored %q", got)
	}
}
