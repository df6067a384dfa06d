package nats_test

import (
	"fmt"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

func TestTheMessage(t *testing.T) {
	server := natstest.Start(t, nil)
	got := listen(t, server.Client(), "audit.>")
	s := newSink(t, nats.Config{URL: server.URL()})
	d := message(1, "audit.a", "hello", keyhook.Header{Name: "X-Team", Value: "größe 100%"}, keyhook.Header{Name: "x-two", Value: "1"}, keyhook.Header{Name: "x-two", Value: "2"})
	mustSend(t, s, d)
	m := next(t, got)
	want := natsgo.Header{
		"Nats-Msg-Id": {d.ID}, "Content-Type": {"text/plain; charset=utf-8"},
		"X-Team": {"größe 100%"}, "x-two": {"1", "2"},
		"Keyhook-Key": {"/a%20b/%C3%BC%25"},
	}
	if m.Subject != "audit.a" || string(m.Data) != "hello" || m.Reply != "" || fmt.Sprint(m.Header) != fmt.Sprint(want) {
		t.Errorf("got %s %q, reply to %q, with\n%v, want\n%v", m.Subject, m.Data, m.Reply, m.Header, want)
	}
}

func TestHeadersThatCannotBeSent(t *testing.T) {
	s := newSink(t, nats.Config{URL: "nats://127.0.0.1:1"}) // nobody is asked
	for _, tt := range []struct{ name, value, want string }{
		{"X-A", "1\r\nX-B: tops", "line break"},
		{"X-A", "tops\x00", "control character"},
		{"X A", "tops", "not a valid header name"},
		{"X:A", "tops", "not a valid header name"},
		{"", "tops", "not a valid header name"},
		{"nats-msg-id", "tops", "is set by keyhook"},
		{"Nats-Expected-Stream", "tops", "is set by keyhook"},
		{"keyhook-key", "tops", "is set by keyhook"},
	} {
		err := send(t.Context(), s, message(1, "a", "x", keyhook.Header{Name: tt.name, Value: tt.value}))
		wantError(t, err, sinks.Rejected, fmt.Sprintf("header %q", tt.name), tt.want)
		if strings.Contains(err.Error(), "tops") {
			t.Errorf("%v tells the value", err)
		}
	}
	d := message(1, "a", "x")
	d.Message.ContentType = "text/plain\r\nX: 1"
	wantError(t, send(t.Context(), s, d), sinks.Rejected, "Content-Type")
	d = message(1, "a", "x")
	d.ID = ""
	wantError(t, send(t.Context(), s, d), sinks.Rejected, "no valid id")
}

// A key of any length is no reason to fail.
func TestAnEndlessKeyStaysOutOfTheHeaders(t *testing.T) {
	server := natstest.Start(t, nil)
	got := listen(t, server.Client(), "audit.>")
	s := newSink(t, nats.Config{URL: server.URL()})
	for _, size := range []int{32 << 10, 32<<10 + 1} {
		d := message(1, "audit.a", "hello")
		d.Event.Key = []byte(strings.Repeat("k", size))
		mustSend(t, s, d)
		if m := next(t, got); (m.Header.Get("Keyhook-Key") == string(d.Event.Key)) != (size <= 32<<10) {
			t.Errorf("a key of %d bytes has a header of %d", size, len(m.Header.Get("Keyhook-Key")))
		}
	}
}
