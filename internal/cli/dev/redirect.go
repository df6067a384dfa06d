package dev

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"

	"keyhook"
	"keyhook/internal/config"
	"keyhook/internal/inbox"
	"keyhook/internal/inbox/natsinbox"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/watch"
)

// redirect takes the session away from everything outside of this process.
func (s *session) redirect(dir string) {
	c := s.plan.Config
	c.Etcd.Endpoints = []string{s.etcd.Endpoint()}
	c.Etcd.Username, c.Etcd.Password, c.Etcd.TLS = "", strictyaml.Secret{}, config.TLS{}
	c.Etcd.Start = watch.Now
	c.Checkpoint.Dir = filepath.Join(dir, "data")
	c.Admin = config.Admin{Listen: "127.0.0.1:0"}
}

// toInbox makes a sink deliver into this process.
func (s *session) toInbox(ctx context.Context, spec *rules.SinkSpec) {
	defer s.expectDeadLetters(ctx, spec)
	if spec.Webhook != nil {
		w := *spec.Webhook
		w.URL = strictyaml.NewSecret(s.inbox.URL() + "/" + url.PathEscape(spec.Name))
		spec.Webhook = &w
		return
	}
	n := *spec.NATS
	n.URL = strictyaml.NewSecret(s.nats.URL())
	n.User, n.Password, n.Token, n.NKey = strictyaml.Secret{}, strictyaml.Secret{}, strictyaml.Secret{}, strictyaml.Secret{}
	n.CredsFile, n.TLS = "", nil
	spec.NATS = &n

	to := busSink{way: natsinbox.Core, stream: n.Stream}
	switch {
	case n.JetStream:
		to.way = natsinbox.JetStream
	case n.Request:
		to.way = natsinbox.Request
	}
	s.mu.Lock()
	s.buses[spec.Name] = to
	s.mu.Unlock()
	if n.Stream != "" {
		s.trouble(ctx, s.bus.AddStream(ctx, n.Stream))
	}
}

// expectDeadLetters prepares for the stories of dead letters, which no rule
// sends: one of a sink and the sink that is told of its dead letters is known
// first.
func (s *session) expectDeadLetters(ctx context.Context, spec *rules.SinkSpec) {
	s.mu.Lock()
	if spec.DeadLetter != "" {
		s.told[spec.DeadLetter] = true
	}
	var all []busSink
	for name := range s.told {
		if to, known := s.buses[name]; known {
			s.deadLetters = to.way
			all = append(all, to)
		}
	}
	s.mu.Unlock()
	for _, to := range all {
		s.trouble(ctx, s.bus.Expect(ctx, to.way, to.stream, rules.DeadLetterSubject))
	}
}

// busSink is what is known of a sink that delivers to NATS.
type busSink struct {
	way    natsinbox.Way
	stream string
}

func (s *session) busSink(name string) busSink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buses[name]
}

// evaluated is told of each change and what came of it, before anything of it is
// sent.
func (s *session) evaluated(ctx context.Context, e *keyhook.Event, ds []*keyhook.Delivery) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if over {
		s.print.printf("\n")
		s.print.change(e.Type == keyhook.Delete, string(e.Key), string(e.Value))
		if len(ds) == 0 {
			s.print.printf("    %s\n", s.print.in(dim, noMatch))
		}
	}
	for _, d := range ds {
		if to := s.busSink(d.Sink); to.way != natsinbox.Unknown {
			s.trouble(ctx, s.bus.Expect(ctx, to.way, to.stream, d.Message.Subject))
		}
	}
	s.ledger.owe(e, ds)
}

// trouble prints an error that a delivery will suffer from.
func (s *session) trouble(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		s.print.printf("    %s %s\n", s.print.in(red, "✗ NATS"), printable(err.Error()))
	}
}

// reply refuses what the story wants to fail.
func (s *session) reply(r inbox.Request) inbox.Reply {
	d := s.ledger.delivery(r.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d != nil && r.Attempt == 1 && s.refuse == string(d.Event.Key)+"="+string(d.Event.Value) {
		return inbox.Reply{Status: http.StatusServiceUnavailable}
	}
	return inbox.Reply{}
}

// arrived is told of each request that the inbox has decided upon.
func (s *session) arrived(r inbox.Request) {
	s.print.request(r, s.ledger.delivery(r.ID))
	if r.Acknowledged() {
		s.ledger.ack(r.ID)
	}
}

// way says how a message travels that has come by NATS.
func (s *session) way(id, subject string) natsinbox.Way {
	if d := s.ledger.delivery(id); d != nil {
		return s.busSink(d.Sink).way
	}
	if subject != rules.DeadLetterSubject {
		return natsinbox.Unknown
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadLetters
}

// heard is told of each message that has arrived by NATS.
func (s *session) heard(m natsinbox.Message) {
	s.print.message(m, s.ledger.delivery(m.ID))
	s.ledger.ack(m.ID)
}

// died is told of each dead letter.
func (s *session) died(l *keyhook.DeadLetter) {
	s.print.dead(l)
	s.ledger.bury(l.Delivery.ID)
}

// reloaded is told of each attempt to load the rules anew. What is wrong with
// them is in the log.
func (s *session) reloaded(err error) {
	if err == nil {
		s.print.printf("\n  %s\n", s.print.in(green, "rules reloaded"))
	}
}
