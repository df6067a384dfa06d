package dev

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"keyhook"
	"keyhook/internal/inbox"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// tell plays the story and, unless it is to end with it, waits for ctx.
func (s *session) tell(ctx context.Context, admin <-chan string, ready <-chan struct{}) error {
	select {
	case address := <-admin:
		s.greet(address)
	case <-ctx.Done():
		return s.interrupted()
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return s.interrupted()
	}
	if err := s.story(ctx); err != nil {
		return err
	}
	if s.Once {
		return nil
	}
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.invite()
	<-ctx.Done()
	s.print.printf("\n%s. Bye.\n", s.outcome(""))
	return nil
}

// interrupted is the end of a session before that of its story.
func (s *session) interrupted() error {
	if s.Once {
		return errors.New("interrupted before the end of the story")
	}
	return nil
}

// story writes the steps into etcd, one after the other.
func (s *session) story(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()

	steps := slices.DeleteFunc(slices.Clone(failover), func(st step) bool { return !s.watched(st.key) })
	if len(steps) == 0 {
		s.print.printf("The story changes keys that this configuration does not watch: there is nothing to tell.\n")
		return s.untold("none of the story's keys is watched, so nothing was tried")
	}
	s.print.printf("A failover, as Patroni and an application write it:\n")
	for _, st := range steps {
		lost, err := s.step(ctx, patience, st)
		switch {
		case ctx.Err() != nil:
			return s.interrupted()
		case err != nil:
			return err
		case len(lost) > 0:
			return &lostError{lost: lost, after: s.Timeout}
		}
		if _, dead := s.ledger.total(); dead > 0 && s.Once {
			return &storyError{
				message: "the story ends here: " + counted(dead, "delivery") + " became a dead letter",
				hint:    "a template or a header failed: the line of the dead letter names its place",
			}
		}
	}
	switch arrived, dead := s.ledger.total(); {
	case dead > 0:
		s.print.printf("\n%s %s.\n", s.print.in(red, "✗"), s.outcome(""))
	case arrived == 0:
		s.print.printf("\nNo rule wants to know of any of it.\n")
		return s.untold("no rule matched any change of the story, so nothing was delivered")
	default:
		s.print.printf("\n%s %s.\n", s.print.in(green, "✓"), s.outcome("All "))
	}
	return nil
}

// outcome says what the deliveries came to.
func (s *session) outcome(all string) string {
	arrived, dead := s.ledger.total()
	text := all + counted(arrived, "delivery") + " arrived"
	if dead > 0 {
		text += ", " + counted(dead, "dead letter")
	}
	return text
}

// untold is the end of a story that says nothing about the rules: with --once
// nobody must take that for a success.
func (s *session) untold(message string) error {
	if !s.Once {
		return nil
	}
	return &storyError{
		message: message,
		hint:    "without --once it goes on, and you put keys of your own; `keyhook check` checks rules without a story",
	}
}

// storyError is a story that failed, with what to do.
type storyError struct{ message, hint string }

func (e *storyError) Error() string { return e.message }

// Hint says what to do about it.
func (e *storyError) Hint() string { return e.hint }

// step makes one change and waits for what it owes. It returns what is missing
// when patience ends.
func (s *session) step(ctx, patience context.Context, st step) (missing []string, err error) {
	s.mu.Lock()
	s.refuse = ""
	if st.fail && s.own {
		s.refuse = st.key + "=" + st.value
	}
	s.mu.Unlock()

	why := st.why
	if s.own && st.fail {
		why += " The inbox refuses it once: keyhook tries again, with the same id."
	}
	s.print.printf("\n  %s\n", s.print.in(dim, why))
	s.print.change(st.del, st.key, st.value)
	rev, err := s.write(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("write into the development etcd: %w", err)
	}
	var want []string
	if s.own {
		want = st.want
	}
	rules, seen := s.ledger.settle(patience, rev, want)
	for _, rule := range rules {
		missing = append(missing, fmt.Sprintf("what %s owes for revision %d of %s", rule, rev, st.key))
	}
	switch {
	case !seen && len(missing) == 0:
		missing = append(missing, fmt.Sprintf("revision %d of %s itself", rev, st.key))
	case s.ledger.owes(rev) == 0:
		s.print.printf("    %s\n", s.print.in(dim, noMatch))
	}
	return missing, nil
}

// write makes the change of a step, and returns its revision.
func (s *session) write(ctx context.Context, st step) (int64, error) {
	if st.del {
		resp, err := s.client.Delete(ctx, st.key)
		if err != nil {
			return 0, err
		}
		return resp.Header.Revision, nil
	}
	resp, err := s.client.Put(ctx, st.key, st.value)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

const noMatch = "no rule matches"

// lostError is a story that did not come to its end.
type lostError struct {
	lost  []string
	after time.Duration
}

func (e *lostError) Error() string {
	return fmt.Sprintf("the story ends here: this did not arrive within %s:\n%s", e.after, strings.Join(e.lost, "\n"))
}

// Hint says what to look at.
func (e *lostError) Hint() string {
	return "run it with --verbose, or without --once and look at the status page"
}

// watched reports whether the configuration wants to know of key.
func (s *session) watched(key string) bool {
	return slices.ContainsFunc(s.plan.Ranges, func(r keyhook.Range) bool { return r.Contains([]byte(key)) })
}

// evaluated is told of each change and what came of it.
func (s *session) evaluated(e *keyhook.Event, ds []*keyhook.Delivery) {
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
	s.ledger.owe(e, ds)
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

// toInbox sends a sink's deliveries to the inbox, those for NATS as well.
func (s *session) toInbox(spec *rules.SinkSpec) {
	w := rules.WebhookSpec{Timeout: rules.DefaultTimeout}
	if spec.Webhook != nil {
		w = *spec.Webhook
	}
	spec.NATS = nil
	w.URL = strictyaml.NewSecret(s.inbox.URL() + "/" + url.PathEscape(spec.Name))
	spec.Webhook = &w
}

func (s *session) greet(admin string) {
	p := s.print
	p.printf("%s: an etcd, a webhook inbox and keyhook in one process. Nothing leaves this machine.\n\n", p.in(bold, "keyhook dev"))
	p.printf("  etcd    %s\n", s.etcd.Endpoint())
	p.printf("  inbox   %s   every message goes here, whatever its sink's url says\n", s.inbox.URL())
	copied := ""
	if s.own {
		copied = "   a copy of examples/quickstart"
	}
	for _, glob := range s.plan.Config.Rules {
		p.printf("  rules   %s%s\n", glob.Pattern, copied)
	}
	p.printf("  status  http://%s/api/v1/status\n\n", admin)
}

// invite says how to go on.
func (s *session) invite() {
	key, value := leader, "node-d"
	if !s.watched(key) && len(s.plan.Ranges) > 0 {
		key, value = within(s.plan.Ranges[0]), "hello"
	}
	base64 := base64.StdEncoding
	p := s.print
	p.printf("\n%s Put keys from another terminal, and watch this one:\n\n", p.in(bold, "Your turn."))
	p.printf("  etcdctl --endpoints=%s put %s %s\n\n", s.etcd.Endpoint(), key, value)
	p.printf("or, where there is no etcdctl:\n\n")
	p.printf("  curl -s %s/v3/kv/put -d '{\"key\":\"%s\",\"value\":\"%s\"}'\n\n", s.etcd.Endpoint(),
		base64.EncodeToString([]byte(key)), base64.EncodeToString([]byte(value)))
	p.printf("Edit the rules: they are reloaded within a second. Ctrl-C ends it.\n")
}

// within returns a key of r, as people would write one.
func within(r keyhook.Range) string {
	if key := string(r.Start) + "example"; r.Contains([]byte(key)) {
		return key
	}
	return string(r.Start)
}

func counted(n int, what string) string {
	if n != 1 {
		what = strings.TrimSuffix(what, "y") + map[bool]string{true: "ies", false: "s"}[strings.HasSuffix(what, "y")]
	}
	return fmt.Sprintf("%d %s", n, what)
}
