package rules

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"keyhook"
	"keyhook/internal/strictyaml"
)

func TestDeadLetterEvent(t *testing.T) {
	letter := &keyhook.DeadLetter{
		Delivery: &keyhook.Delivery{ID: "7-abc", Rule: "r", Send: "s", Sink: "hook", Event: put("/a\n", "x")},
		Reason:   keyhook.ReasonRejected, Error: "HTTP 400", FailedAt: testTime,
	}
	tell := func(number uint64) *keyhook.Delivery {
		return DeadLetterEvent("/etcd/prod", letter, number, "ops", []byte(`{"id":"7-abc"}`))
	}
	d := tell(3)
	var got cloudevents.Event
	if err := json.Unmarshal(d.Message.Body, &got); err != nil {
		t.Fatal(err)
	}
	if err := got.Validate(); err != nil {
		t.Fatal(err)
	}
	if got.ID() != d.ID || got.Type() != "keyhook.dead_letter" || got.Source() != "/etcd/prod" || got.Subject() != "/a%0A" ||
		!got.Time().Equal(testTime) || string(got.Data()) != `{"id":"7-abc"}` {
		t.Errorf("got %s", got)
	}
	if d.Sink != "ops" || d.Rule != "r" || d.Event != letter.Delivery.Event || d.Message.Subject != DeadLetterSubject || d.Message.ContentType != contentCloudEvent {
		t.Errorf("got %+v", d)
	}
	if again := tell(3); again.ID != d.ID {
		t.Error("made again it has another id")
	}
	if second := tell(4); second.ID == d.ID {
		t.Error("given up a second time it has the same id")
	}
	if !strings.HasPrefix(d.ID, "7-") || strings.Contains(d.ID, ".") {
		t.Errorf("the id is %s", d.ID)
	}
	letter.Delivery = d
	if story := tell(5); story != nil {
		t.Errorf("a story is told of a story: %+v", story)
	}
}

func TestDeadLettersAreToldToAnotherSink(t *testing.T) {
	load := func(to string) (*Set, string) {
		set, err := Load([]File{{Path: "a.yaml", Data: []byte(`
sinks:
  - {name: pager, webhook: {url: 'http://a/'}, dead_letter: ` + to + `}
  - {name: ops, webhook: {url: 'http://b/'}}
rules: [{name: r, keys: /a, send: {sink: pager}}]
`)}}, Options{})
		var problems strictyaml.Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatal(err)
		}
		return set, problems.Error()
	}
	if set, problems := load("ops"); problems != "" || set.Sinks()[1].DeadLetter != "ops" || set.Sinks()[0].DeadLetter != "" {
		t.Errorf("%s", problems)
	}
	for to, want := range map[string]string{
		"pager": `a.yaml:3:61: sink "pager" cannot be told of its own dead letters`,
		"opps":  "a.yaml:3:61: sink \"opps\" is not defined\n    did you mean \"ops\"?",
		"[ops]": "a.yaml:3:61: ",
	} {
		if _, problems := load(to); !strings.HasPrefix(problems, want) {
			t.Errorf("%s: got %q, want %q", to, problems, want)
		}
	}
	_, err := Load([]File{{Path: "a.yaml", Data: []byte("sinks: [{name: a, webhook: {url: 'http://a/'}}]\nrules: [{name: r, keys: /a, send: {sink: a, name: 'dead_letter:x'}}]\n")}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "names of sends that begin with") {
		t.Errorf("got %v", err)
	}
}
