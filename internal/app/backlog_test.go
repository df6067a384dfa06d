package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"keyhook/internal/admin"
	"keyhook/internal/backlog"
	"keyhook/internal/inbox"
)

// A dead letter is told to another sink: as the page shows it, once, and also
// when the process stops in between.
func TestADeadLetterIsToldToAnotherSink(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", fmt.Sprintf(`
sinks:
  - {name: pager, webhook: {url: "%[1]s/pager"}, dead_letter: ops}
  - {name: ops, webhook: {url: "%[1]s/ops"}, retry: {initial: 10ms, max: 20ms}, dead_letter: pager}
rules:
  - {name: page, keys: '/a/{x}', send: {sink: pager, body: event.value}}
`, s.box.URL()))
	s.box.SetReply(func(r inbox.Request) inbox.Reply {
		return inbox.Reply{Status: map[string]int{"/pager": http.StatusBadRequest, "/ops": http.StatusServiceUnavailable}[r.Path]}
	})
	p := s.up()
	s.put("/a/x", "one")
	p.eventually("the story is owed", func() bool { return p.metric(`keyhook_owed{sink="ops"}`) == "1" })
	var shown any
	c := admin.NewClient(p.admin, "")
	defer c.Close()
	for l, err := range c.DeadLetters(t.Context(), backlog.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		_, page := p.get("/api/v1/dead-letters/" + l.ID)
		if err := json.Unmarshal([]byte(page), &shown); err != nil {
			t.Fatal(err)
		}
	}
	p.stop()
	s.box.SetReply(nil)
	p = s.up()
	p.eventually("nothing is owed", func() bool { return p.metric(`keyhook_owed{sink="ops"}`) == "0" })

	told := slices.DeleteFunc(s.box.Requests(), func(r inbox.Request) bool { return r.Path != "/ops" || !r.Acknowledged() })
	if len(told) != 1 {
		t.Fatalf("told %d times", len(told))
	}
	var event struct {
		ID, Source, Type, Subject, Time string
		Data                            any
	}
	if err := json.Unmarshal(told[0].Body, &event); err != nil {
		t.Fatal(err)
	}
	if event.ID != told[0].ID || event.Type != "keyhook.dead_letter" || event.Subject != "/a/x" || !strings.HasPrefix(event.Source, "/etcd/") ||
		told[0].Header.Get("Content-Type") != "application/cloudevents+json" {
		t.Errorf("got %s with %v", told[0].Body, told[0].Header)
	}
	if got, want := fmt.Sprint(event.Data), fmt.Sprint(shown); got != want {
		t.Errorf("the story is\n%s, the page shows\n%s", got, want)
	}
}

// A story that cannot be told is a dead letter itself, and no story is made of
// that.
func TestStoriesEnd(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", fmt.Sprintf(`
sinks:
  - {name: a, webhook: {url: "%[1]s/a"}, dead_letter: b}
  - {name: b, webhook: {url: "%[1]s/b"}, dead_letter: a}
rules:
  - {name: r, keys: '/a/{x}', send: {sink: a}}
`, s.box.URL()))
	s.box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusBadRequest} })
	p := s.up()
	s.put("/a/x", "one")
	p.eventually("both are dead", func() bool {
		return p.metric(`keyhook_dead_letters{sink="a"}`) == "1" && p.metric(`keyhook_dead_letters{sink="b"}`) == "1"
	})
	c := admin.NewClient(p.admin, "")
	defer c.Close()
	var sends []string
	for l, err := range c.DeadLetters(t.Context(), backlog.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		sends = append(sends, l.Send)
	}
	if fmt.Sprint(sends) != "[a dead_letter:a]" || len(s.box.Requests()) != 2 {
		t.Errorf("%q are dead after %d requests", sends, len(s.box.Requests()))
	}
}
