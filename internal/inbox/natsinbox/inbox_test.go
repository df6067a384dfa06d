package natsinbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"keyhook/internal/inbox/natsinbox"
	"keyhook/internal/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is an inbox, its server, and somebody who sends.
type rig struct {
	t       *testing.T
	inbox   *natsinbox.Inbox
	client  *nats.Conn
	arrived chan natsinbox.Message
}

// newRig starts an inbox. The ids of its messages begin with their way: core-1.
func newRig(t *testing.T) *rig {
	t.Helper()
	server := natstest.Start(t, nil)
	r := &rig{t: t, client: server.Client(), arrived: make(chan natsinbox.Message, 100)}
	var err error
	r.inbox, err = natsinbox.Connect(server.URL(), natsinbox.Config{Way: way, Arrived: func(m natsinbox.Message) { r.arrived <- m }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.inbox.Close)
	return r
}

func way(id, _ string) natsinbox.Way {
	name, _, _ := strings.Cut(id, "-")
	return map[string]natsinbox.Way{"core": natsinbox.Core, "request": natsinbox.Request, "stream": natsinbox.JetStream}[name]
}

func message(id, subject string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{nats.MsgIdHdr: {id}}, Data: []byte("body of " + id)}
}

func (r *rig) expect(id, stream, subject string) {
	r.t.Helper()
	if err := r.inbox.Expect(r.t.Context(), way(id, ""), stream, subject); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) publish(id, subject string) {
	r.t.Helper()
	if err := r.client.PublishMsg(message(id, subject)); err != nil {
		r.t.Fatal(err)
	}
}

// next returns the next message as one line.
func (r *rig) next() string {
	r.t.Helper()
	select {
	case m := <-r.arrived:
		if string(m.Body) != "body of "+m.ID || m.Header.Get(nats.MsgIdHdr) != m.ID || m.Way != way(m.ID, "") {
			r.t.Errorf("%+v", m)
		}
		return fmt.Sprintf("%s on %s in %s#%d", m.ID, m.Subject, m.Stream, m.Sequence)
	case <-time.After(30 * time.Second):
		r.t.Fatal("nothing arrives")
		return ""
	}
}

func TestEachWayIsToldWhenAMessageHasArrived(t *testing.T) {
	r := newRig(t)
	r.expect("core-1", "", "dns.changed")
	r.expect("request-1", "", "rpc")
	r.expect("stream-1", "", "audit.a.b")

	r.publish("core-1", "dns.changed")
	if got := r.next(); got != "core-1 on dns.changed in #0" {
		t.Error(got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	reply, err := r.client.RequestMsgWithContext(ctx, message("request-1", "rpc"))
	if err != nil || string(reply.Data) != "ok" {
		t.Errorf("the reply is %v, %v", reply, err)
	}
	if got := r.next(); got != "request-1 on rpc in #0" {
		t.Error(got)
	}
	js, err := jetstream.New(r.client)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is a repetition, which is not stored again
		if _, err := js.PublishMsg(ctx, message("stream-1", "audit.a.b")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.PublishMsg(ctx, message("stream-2", "audit.c")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"stream-1 on audit.a.b in EVENTS#1", "stream-2 on audit.c in EVENTS#2"} {
		if got := r.next(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Who listens on a subject hears everything on it. What is not on this way, or
// not of keyhook, is not its business.
func TestAMessageIsToldOfOnItsOwnWayOnly(t *testing.T) {
	r := newRig(t)
	r.expect("core-1", "", "a.x")
	r.expect("stream-1", "", "a.y")
	for i, id := range []string{"stream-1", "nobody", "core-1", "stream-2"} {
		r.publish(id, fmt.Sprint("a.", i))
	}
	got := map[string]bool{r.next(): true, r.next(): true, r.next(): true}
	for _, want := range []string{"stream-1 on a.0 in EVENTS#1", "core-1 on a.2 in #0", "stream-2 on a.3 in EVENTS#4"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
}

func TestStreamsThatShareSubjects(t *testing.T) {
	r := newRig(t)
	if err := r.inbox.AddStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	for i, to := range []struct{ stream, subject string }{{"ORDERS", "e.orders"}, {"BILLS", "e.bills"}, {"ORDERS", "e.orders"}, {"ORDERS", "e.more"}} {
		id := fmt.Sprint("stream-", i)
		r.expect(id, to.stream, to.subject)
		r.publish(id, to.subject)
		if got := r.next(); !strings.HasPrefix(got, id+" on "+to.subject+" in "+to.stream+"#") {
			t.Error(got)
		}
	}
	// Nobody can have two streams for one subject.
	if err := r.inbox.Expect(t.Context(), natsinbox.JetStream, "BILLS", "e.orders"); err == nil {
		t.Error("no error")
	}
	r.expect("stream-9", "BILLS", "e.bills.other")
	r.publish("stream-9", "e.bills.other")
	if got := r.next(); got != "stream-9 on e.bills.other in BILLS#2" {
		t.Error(got)
	}
	// Nor can anybody publish to these.
	for _, subject := range []string{"", "a..b", "*.a", "a.>", "a b"} {
		r.expect("stream-10", "", subject)
		r.expect("core-10", "", subject)
	}
}
