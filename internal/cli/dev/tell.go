package dev

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/internal/hint"
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
	if err := s.tellStory(ctx); err != nil {
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

// tellStory writes the steps into etcd, one after the other.
func (s *session) tellStory(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()

	steps := slices.DeleteFunc(slices.Clone(s.story.Steps), func(st step) bool { return !s.watched(st.key()) })
	if len(steps) == 0 {
		s.print.printf("The story changes keys that this configuration does not watch: there is nothing to tell.\n")
		return s.untold("none of the story's keys is watched, so nothing was tried")
	}
	s.print.printf("%s:\n", printable(s.story.Title))
	unexpected := 0
	for _, st := range steps {
		lost, fits, err := s.step(ctx, patience, st)
		switch {
		case ctx.Err() != nil:
			return s.interrupted()
		case err != nil:
			return err
		case len(lost) > 0:
			return hint.New(fmt.Sprintf("the story ends here: this did not arrive within %s:\n%s", s.Timeout, strings.Join(lost, "\n")),
				"run it with --verbose, or without --once and look at the status page", nil)
		case !fits:
			unexpected++
		}
		if _, dead := s.ledger.total(); dead > 0 && s.Once {
			return hint.New("the story ends here: "+counted(dead, "delivery")+" became a dead letter",
				"a template or a header failed: the line of the dead letter names its place", nil)
		}
	}
	arrived, dead := s.ledger.total()
	switch {
	case dead > 0 || unexpected > 0:
		s.print.printf("\n%s %s.\n", s.print.in(red, "✗"), s.outcome(""))
	case arrived == 0 && !s.story.expectsNothing():
		s.print.printf("\nNo rule wants to know of any of it.\n")
		return s.untold("no rule matched any change of the story, so nothing was delivered")
	default:
		s.print.printf("\n%s %s.\n", s.print.in(green, "✓"), s.outcome("All "))
	}
	if unexpected > 0 && s.Once {
		return hint.New(counted(unexpected, "change")+" of the story came to something else than expected",
			"the lines with ✗ above say what; the story's `expect` lists the rules of each step", nil)
	}
	return nil
}

// outcome says what the deliveries came to.
func (s *session) outcome(all string) string {
	arrived, dead := s.ledger.total()
	if arrived == 1 {
		all = ""
	}
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
	return hint.New(message, "without --once it goes on, and you put keys of your own; `keyhook check` checks rules without a story", nil)
}

// step makes one change and waits for what it owes. It returns what is missing
// when patience ends, and whether the rules matched that are expected to.
func (s *session) step(ctx, patience context.Context, st step) (missing []string, fits bool, err error) {
	s.mu.Lock()
	s.refuse = ""
	if st.Refuse {
		s.refuse = st.Put + "=" + st.Value
	}
	s.mu.Unlock()

	why := st.Why
	if st.Refuse {
		why += " The inbox refuses it once: keyhook tries again, with the same id."
	}
	s.print.printf("\n  %s\n", s.print.in(dim, printable(why)))
	s.print.change(st.Put == "", st.key(), st.Value)
	rev, err := s.write(ctx, st)
	if err != nil {
		return nil, false, fmt.Errorf("write into the development etcd: %w", err)
	}
	lost, seen := s.ledger.settle(patience, rev)
	for _, what := range lost {
		missing = append(missing, fmt.Sprintf("%s, for revision %d of %s", what, rev, st.key()))
	}
	if !seen {
		return []string{fmt.Sprintf("revision %d of %s itself", rev, st.key())}, false, nil
	}
	matched := s.ledger.rules(rev)
	if len(matched) == 0 {
		s.print.printf("    %s\n", s.print.in(dim, noMatch))
	}
	for _, name := range s.ledger.held(rev) {
		s.print.printf("    %s  %s\n", s.print.in(yellow, "… waits"), name)
	}
	if st.Expect == nil {
		return missing, true, nil
	}
	expected := slices.Sorted(slices.Values(*st.Expect))
	if fits = slices.Equal(expected, matched); !fits {
		s.print.printf("    %s\n", s.print.in(red, "✗ expected of this: "+orNothing(expected)+"; came of it: "+orNothing(matched)))
	}
	return missing, fits, nil
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// write makes the change of a step, and returns its revision.
func (s *session) write(ctx context.Context, st step) (int64, error) {
	switch {
	case st.Delete != "":
		resp, err := s.client.Delete(ctx, st.Delete)
		if err != nil {
			return 0, err
		}
		if resp.Deleted == 0 {
			return 0, fmt.Errorf("delete %s: there is no such key", st.Delete)
		}
		return resp.Header.Revision, nil
	case st.Expire != "":
		// What etcd does when the time is over, at once.
		resp, err := s.client.Revoke(ctx, s.leases[st.Expire])
		if err != nil {
			return 0, err
		}
		return resp.Header.Revision, nil
	}
	var opts []clientv3.OpOption
	if st.Lease {
		lease, err := s.client.Grant(ctx, int64(leaseTTL.Seconds()))
		if err != nil {
			return 0, err
		}
		s.leases[st.Put] = lease.ID
		opts = append(opts, clientv3.WithLease(lease.ID))
	}
	resp, err := s.client.Put(ctx, st.Put, st.Value, opts...)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// leaseTTL is longer than any session: a lease ends when the story says so.
const leaseTTL = 1000 * time.Hour

const noMatch = "no rule matches"

// watched reports whether the configuration wants to know of key.
func (s *session) watched(key string) bool {
	return slices.ContainsFunc(s.plan.Ranges, func(r keyhook.Range) bool { return r.Contains([]byte(key)) })
}

func (s *session) greet(admin string) {
	p := s.print
	p.printf("%s: an etcd, a NATS server, a webhook inbox and keyhook in one process. Nothing leaves this machine.\n\n", p.in(bold, "keyhook dev"))
	p.printf("  etcd    %s\n", s.etcd.Endpoint())
	p.printf("  inbox   %s   every webhook goes here, whatever its sink's url says\n", s.inbox.URL())
	p.printf("  nats    %s   every NATS message, in streams that are made as they are needed\n", s.nats.URL())
	copied := ""
	if s.quickstart() {
		copied = "   a copy of examples/quickstart"
	}
	for _, glob := range s.plan.Config.Rules {
		p.printf("  rules   %s%s\n", glob.Pattern, copied)
	}
	p.printf("  status  http://%s/api/v1/status\n\n", admin)
}

// invite says how to go on.
func (s *session) invite() {
	key, value := "", ""
	switch at := slices.IndexFunc(s.story.Steps, func(st step) bool { return st.Put != "" && s.watched(st.Put) }); {
	case s.quickstart():
		key, value = "/service/prod-db/leader", "node-d"
	case at >= 0:
		key, value = s.story.Steps[at].Put, s.story.Steps[at].Value
	case len(s.plan.Ranges) > 0:
		key, value = within(s.plan.Ranges[0]), "hello"
	}
	base64 := base64.StdEncoding
	p := s.print
	p.printf("\n%s Put keys from another terminal, and watch this one:\n\n", p.in(bold, "Your turn."))
	p.printf("  etcdctl --endpoints=%s put %s %s\n\n", s.etcd.Endpoint(), shellWord(key), shellWord(value))
	p.printf("or, where there is no etcdctl:\n\n")
	p.printf("  curl -s %s/v3/kv/put -d '{\"key\":\"%s\",\"value\":\"%s\"}'\n\n", s.etcd.Endpoint(),
		base64.EncodeToString([]byte(key)), base64.EncodeToString([]byte(value)))
	if s.hasBus() {
		p.printf("What arrives on NATS, others may hear as well:\n\n  nats --server=%s sub '>'\n\n", s.nats.URL())
	}
	p.printf("Edit the rules: they are reloaded within a second. Ctrl-C ends it.\n")
}

func (s *session) hasBus() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buses) > 0
}

// shellWord quotes s for a shell where it has to be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/-_.:@%+=,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
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
