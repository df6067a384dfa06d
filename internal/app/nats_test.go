package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"keyhook/internal/natstest"
)

// nextMessage returns the next message of a stream's consumer, acknowledged.
func nextMessage(t *testing.T, c jetstream.Consumer) jetstream.Msg {
	t.Helper()
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Ack(); err != nil {
		t.Fatal(err)
	}
	return m
}

func createStream(t *testing.T, server *natstest.Server, name, subjects string) {
	t.Helper()
	js, err := jetstream.New(server.Client())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subjects}}); err != nil {
		t.Fatal(err)
	}
}

// Changes go to a stream on subjects made of their keys, in order, once each,
// over a stop of keyhook and one of the server.
func TestChangesReachAStream(t *testing.T) {
	s := newSite(t)
	server := natstest.Start(t, nil)
	createStream(t, server, "AUDIT", "audit.>")
	s.write("rules/a.yaml", fmt.Sprintf(`
sinks:
  - name: bus
    nats: {url: %q, jetstream: true, stream: AUDIT}
    retry: {initial: 20ms, max: 50ms, jitter: 0}
rules:
  - name: audit
    keys: /service/{path...}
    send: {sink: bus, subject: '"audit." + nats.token(event.key)'}
`, server.URL()))
	const changes = 30
	want := make(map[string][]string) // values by subject
	putMany := func(from, to int) {
		for i := from; i < to; i++ {
			key := fmt.Sprintf("/service/a b.%d", i%3)
			s.put(key, fmt.Sprint(i))
			subject := fmt.Sprintf("audit.%%.service.a%%20b%%2E%d", i%3)
			want[subject] = append(want[subject], fmt.Sprint(i))
		}
	}

	p := s.up()
	putMany(0, changes/3)
	p.eventually("the first changes are delivered", func() bool {
		return p.metric(`keyhook_deliveries_total{outcome="delivered",rule="audit",sink="bus"}`) == fmt.Sprint(changes/3)
	})
	p.stop()
	putMany(changes/3, 2*changes/3)
	server.Stop()
	p = s.up() // without the server
	putMany(2*changes/3, changes)
	server.Start()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js, err := jetstream.New(server.Client())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(ctx, "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	c, err := st.CreateConsumer(ctx, jetstream.ConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string][]string)
	for range changes {
		m := nextMessage(t, c)
		var event struct {
			ID   string
			Data struct{ Value string }
		}
		if err := json.Unmarshal(m.Data(), &event); err != nil {
			t.Fatal(err)
		}
		if id := m.Headers().Get("Nats-Msg-Id"); id != event.ID || m.Headers().Get("Content-Type") != "application/cloudevents+json" {
			t.Errorf("event %s has the headers %v", event.ID, m.Headers())
		}
		got[m.Subject()] = append(got[m.Subject()], event.Data.Value)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	p.eventually("nothing is owed", func() bool { return p.metric(`keyhook_owed{sink="bus"}`) == "0" })
	info, err := st.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != changes {
		t.Errorf("%d messages for %d changes", info.State.Msgs, changes)
	}
}

// A rule's own body goes to listeners and, in binary mode, a CloudEvent as data
// with headers; a subject that cannot be one is a dead letter.
func TestChangesReachListeners(t *testing.T) {
	s := newSite(t)
	server := natstest.Start(t, nil)
	got := make(chan *natsgo.Msg, 100)
	conn := server.Client()
	if _, err := conn.ChanSubscribe(">", got); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	s.write("rules/a.yaml", fmt.Sprintf(`
sinks: [{name: bus, nats: {url: %q, cloudevents: binary}}]
rules:
  - name: own
    keys: /own/{x}
    send: {sink: bus, subject: '"own." + params.x', body: '{"is": event.value}', headers: {X-Team: '"storage"'}}
  - name: event
    keys: /event/{x}
    send: {sink: bus, subject: '"event"'}
`, server.URL()))
	p := s.up()
	receive := func(subject string) *natsgo.Msg {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		for {
			select {
			case m := <-got:
				if strings.HasPrefix(m.Subject, "$") {
					continue // the server's own
				}
				if m.Subject != subject {
					t.Fatalf("%s arrived, want %s", m.Subject, subject)
				}
				return m
			case <-ctx.Done():
				t.Fatalf("nothing arrives at %s", subject)
			}
		}
	}

	s.put("/own/*", "poison")
	s.put("/own/ok", "1")
	if m := receive("own.ok"); string(m.Data) != `{"is":"1"}` || m.Header.Get("X-Team") != "storage" || m.Header.Get("Keyhook-Key") != "/own/ok" {
		t.Errorf("got %s with %v", m.Data, m.Header)
	}
	s.put("/event/x", "2")
	m := receive("event")
	var data struct{ Key, Value string }
	if err := json.Unmarshal(m.Data, &data); err != nil {
		t.Fatal(err)
	}
	if data.Value != "2" || m.Header.Get("ce-type") != "keyhook.etcd.put" || m.Header.Get("ce-subject") != "/event/x" || m.Header.Get("ce-id") != m.Header.Get("Nats-Msg-Id") {
		t.Errorf("got %s with %v", m.Data, m.Header)
	}
	p.eventually("the wildcard is a dead letter", func() bool { return p.metric(`keyhook_dead_letters{sink="bus"}`) == "1" })
}

// What stands in the way is told at the start, before there is anything to
// deliver, and again after a reload.
func TestAStreamThatIsMissingIsToldAtTheStart(t *testing.T) {
	s := newSite(t)
	server := natstest.Start(t, nil)
	rules := `
sinks: [{name: bus, nats: {url: %q, jetstream: true, stream: %s}}]
rules: [{name: r, keys: /a, send: {sink: bus, subject: '"a"'}}]
`
	s.write("rules/a.yaml", fmt.Sprintf(rules, server.URL(), "FIRST"))
	p := s.up()
	p.eventually("the log tells", func() bool {
		return strings.Contains(s.logs.String(), `the stream \"FIRST\" does not exist: create it`)
	})
	s.write("rules/a.yaml", fmt.Sprintf(rules, server.URL(), "SECOND"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	p.eventually("the log tells again", func() bool {
		return strings.Contains(s.logs.String(), `the stream \"SECOND\" does not exist: create it`)
	})
}
