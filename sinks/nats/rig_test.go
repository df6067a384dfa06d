package nats_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"keyhook"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

func newSink(t *testing.T, cfg nats.Config) *nats.Sink {
	t.Helper()
	s, err := nats.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// message returns a delivery whose id is made of n.
func message(n int64, subject, body string, headers ...keyhook.Header) *keyhook.Delivery {
	e := &keyhook.Event{Type: keyhook.Put, Key: []byte("/a b/ü%"), Revision: n}
	return &keyhook.Delivery{
		ID: keyhook.DeliveryID("/etcd/test", 1, e, "rule", "send"), Event: e,
		Message: keyhook.Message{ContentType: "text/plain; charset=utf-8", Subject: subject, Body: []byte(body), Headers: headers},
	}
}

func send(ctx context.Context, s sinks.Sink, d *keyhook.Delivery) error {
	return s.Deliver(ctx, []*keyhook.Delivery{d})[0]
}

// mustSend delivers d at the first attempt.
func mustSend(t *testing.T, s sinks.Sink, d *keyhook.Delivery) {
	t.Helper()
	if err := send(t.Context(), s, d); err != nil {
		t.Fatal(err)
	}
}

// wantError checks the kind of err and what its text says.
func wantError(t *testing.T, err error, kind sinks.Kind, texts ...string) {
	t.Helper()
	var e *sinks.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *sinks.Error", err)
	}
	if e.Kind != kind {
		t.Errorf("%v is of kind %s, want %s", err, e.Kind, kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), "nats: ") {
		t.Errorf("%q says whose error it was", err)
	}
}

// retried delivers d again and again, as the dispatcher would, and returns the
// errors on the way.
func retried(t *testing.T, s sinks.Sink, d *keyhook.Delivery) []error {
	t.Helper()
	var errs []error
	eventually(t, func() bool {
		err := send(t.Context(), s, d)
		if err != nil {
			wantError(t, err, sinks.Retry)
			errs = append(errs, err)
		}
		return err == nil
	})
	return errs
}

// connected waits until s has a connection, which may take longer than its
// timeout.
func connected(t *testing.T, s *nats.Sink) {
	t.Helper()
	eventually(t, func() bool {
		_ = send(t.Context(), s, message(1000, "nobody.listens", "x")) // what comes of it is no matter
		return nats.Connected(s)
	})
}

// eventually waits until done says so.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	over := time.After(patience)
	for !done() {
		select {
		case <-again.C:
		case <-over:
			t.Fatal("it does not happen")
		}
	}
}

// listen subscribes to a subject; the channel brings what arrives.
func listen(t *testing.T, conn *natsgo.Conn, subject string) <-chan *natsgo.Msg {
	t.Helper()
	got := make(chan *natsgo.Msg, 1000)
	if _, err := conn.ChanSubscribe(subject, got); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return got
}

// next returns what comes next.
func next(t *testing.T, got <-chan *natsgo.Msg) *natsgo.Msg {
	t.Helper()
	select {
	case m := <-got:
		return m
	case <-time.After(patience):
		t.Fatal("nothing arrives")
		return nil
	}
}

// nothing checks that all that was sent has arrived.
func nothing(t *testing.T, conn *natsgo.Conn, got <-chan *natsgo.Msg) {
	t.Helper()
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got:
		t.Errorf("%s arrived: %q", m.Subject, m.Data)
	default:
	}
}
