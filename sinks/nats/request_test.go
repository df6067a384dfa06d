package nats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

func withoutJetStream(o *server.Options) { o.JetStream = false }

// A service of NATS' own kind settles with any reply, but for an error.
func TestRequestsToAService(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	s := newSink(t, nats.Config{URL: server.URL(), Request: true})
	d := message(1, "svc.a", "x")
	wantError(t, send(t.Context(), s, d), sinks.Retry, `nobody listens on the subject "svc.a"`)

	conn := server.Client()
	got := make(chan string, 10)
	svc, err := micro.AddService(conn, micro.Config{Name: "test", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := svc.AddEndpoint("a", micro.HandlerFunc(func(r micro.Request) {
		got <- fmt.Sprint(string(r.Data()), " ", r.Headers().Get("Nats-Msg-Id"))
		var err error
		switch string(r.Data()) {
		case "fail":
			err = r.Error("500", "no\ndatabase", []byte("details"))
		case "empty":
			err = r.Respond(nil)
		case "mute":
		default:
			err = r.Respond([]byte("done"))
		}
		if err != nil {
			t.Error(err)
		}
	}), micro.WithEndpointSubject("svc.a")); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}

	mustSend(t, s, d)
	if text := <-got; text != "x "+d.ID {
		t.Errorf("asked with %q", text)
	}
	mustSend(t, s, message(2, "svc.a", "empty"))
	wantError(t, send(t.Context(), s, message(3, "svc.a", "fail")), sinks.Retry, "the reply is an error: 500 no database")
	hasty := newSink(t, nats.Config{URL: server.URL(), Request: true, Timeout: 300 * time.Millisecond})
	connected(t, hasty)
	wantError(t, send(t.Context(), hasty, message(4, "svc.a", "mute")), sinks.Retry, "the message was not acknowledged within 300ms")
}

// Headers are the same in upper and lower case.
func TestAnErrorReplyIsOneHoweverItIsSpelled(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	conn := server.Client()
	if _, err := conn.Subscribe("svc", func(m *natsgo.Msg) {
		reply := natsgo.NewMsg(m.Reply)
		reply.Header.Set("nats-service-error", "no")
		if err := m.RespondMsg(reply); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, nats.Config{URL: server.URL(), Request: true})
	wantError(t, send(t.Context(), s, message(1, "svc", "x")), sinks.Retry, "the reply is an error: no")
}
