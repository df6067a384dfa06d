package rules

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"keyhook"
)

// TestEvaluateConcurrently: goroutines share a set, and each finds what is found
// alone.
func TestEvaluateConcurrently(t *testing.T) {
	set := oneRule(t, `
name: r
keys: ["/{id}", "/deep/{id}"]
when: event.json.n > 0 && event.value != event.?last.value.orValue("") && vars.list.exists(x, x == params.id)
vars: {list: 'event.json.names'}
send:
  - {sink: hook, name: text, body: '"id " + params.id + " " + string(event.json.n)'}
  - {sink: hook, name: default}
`, Options{})
	events := make([]*keyhook.Event, 50)
	want := make([]string, len(events))
	summary := func(ev *keyhook.Event, res *Result) string {
		res.Reset()
		set.Evaluate(Source{Name: "/etcd/x", Epoch: 1}, ev, res)
		s := fmt.Sprint(res.Matches, len(res.Errors))
		for _, d := range res.Deliveries {
			s += fmt.Sprintf("|%s %s %s %v", d.ID, d.Send, d.Message.Body, d.Rejected)
		}
		return s
	}
	var res Result
	for i := range events {
		events[i] = put(fmt.Sprintf("/k%d", i), fmt.Sprintf(`{"n": %d, "names": ["k%d"]}`, i%3, i))
		if i%7 == 0 {
			events[i] = put(fmt.Sprintf("/deep/k%d", i), "no json")
		}
		want[i] = summary(events[i], &res)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			var res Result
			for i := range 200 {
				n := (i + w*7) % len(events)
				if got := summary(events[n], &res); got != want[n] {
					t.Errorf("event %d: got %s, want %s", n, got, want[n])
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestResultIsReused: deliveries of one event survive the next one.
func TestResultIsReused(t *testing.T) {
	set := oneRule(t, "name: r\nkeys: '/{id}'\nsend: {sink: hook, body: params.id, headers: {X: event.value}}", Options{})
	var res Result
	set.Evaluate(Source{}, put("/a", "1"), &res)
	first := res.Deliveries[0]
	res.Reset()
	if len(res.Deliveries)+len(res.Matches)+len(res.Errors) != 0 {
		t.Fatal("something is left")
	}
	set.Evaluate(Source{}, put("/b", "2"), &res)
	if string(first.Message.Body) != "a" || first.Message.Headers[0].Value != "1" || string(first.Event.Key) != "/a" {
		t.Fatalf("the first delivery has changed: %s %v", first.Message.Body, first.Message.Headers)
	}
}

// TestSimpleConditionsAllocateNothing but what the event itself needs, a string
// of its key. Under the race detector the pool of states makes some more.
func TestSimpleConditionsAllocateNothing(t *testing.T) {
	set := oneRule(t, "name: r\nkeys: '/{id}'\nwhen: event.type == 'PUT' && event.key == 'x'\nsend: {sink: hook}", Options{})
	ev := put("/a", "1")
	var res Result
	if n := testing.AllocsPerRun(1000, func() { set.Evaluate(Source{}, ev, &res) }); n > 2 && !raceEnabled {
		t.Fatalf("%v allocations", n)
	}
}

// TestCheckWebhook: what the sink itself has to say about a webhook gets the
// place of its field.
func TestCheckWebhook(t *testing.T) {
	file := File{Path: "a.yaml", Data: []byte(`sinks:
  - name: hook
    webhook:
      url: "http://127.0.0.1/"
      headers: {X-Bad: secret}
      sign: [{secret: weak}]
rules: [{name: r, keys: /a, send: {sink: hook}}]
`)}
	_, err := Load([]File{file}, Options{CheckWebhook: func(w WebhookSpec) []FieldProblem {
		if w.Sign[0].Reveal() != "weak" || w.Headers[0].Name != "X-Bad" {
			t.Errorf("got %+v", w)
		}
		return []FieldProblem{
			{Field: "sign[0].secret", Message: "is too short", Hint: "make another"},
			{Field: "headers.X-Bad", Message: "is reserved"},
			{Field: "other", Message: "is wrong"},
		}
	}})
	const want = "a.yaml:4:7: other is wrong\na.yaml:5:24: headers.X-Bad is reserved\na.yaml:6:23: sign[0].secret is too short\n    make another"
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
}

func TestNoFiles(t *testing.T) {
	if _, err := Load(nil, Options{}); err == nil || err.Error() != "rules: there are no rule files" {
		t.Fatalf("got %v", err)
	}
}

// TestReloadReusesExpressions that have not changed, and no others; places in
// the file are those of the new one.
func TestReloadReusesExpressions(t *testing.T) {
	const body = "name: r\nkeys: '/{id}'\nwhen: event.json.n > 0 && vars.v != ''\nvars: {v: params.id}\nsend: {sink: hook}"
	first := oneRule(t, body, Options{})
	same := oneRule(t, "description: moved by a line\n"+body, Options{Previous: first})
	if first.rules[0].when.plan != same.rules[0].when.plan {
		t.Error("the condition was compiled again")
	}
	if was, is := first.rules[0].when.source.Position.Line, same.rules[0].when.source.Position.Line; is != was+1 {
		t.Errorf("the condition is in line %d, after %d", is, was)
	}
	var res Result
	same.Evaluate(Source{}, put("/a", `{}`), &res)
	if len(res.Errors) != 1 || !strings.HasPrefix(res.Errors[0].Err.Error(), "a.yaml:6:19: when: no such key") {
		t.Errorf("got %v", res.Errors)
	}
	// The same text with another meaning: v is a number now.
	_, err := Load([]File{{Path: "a.yaml", Data: []byte("sinks: [{name: hook, webhook: {url: 'http://a/'}}]\nrules: [{name: r, keys: '/{id}', when: \"event.json.n > 0 && vars.v != ''\", vars: {v: 'size(params.id)'}, send: {sink: hook}}]")}}, Options{Previous: same})
	if err == nil {
		t.Error("a condition that has become wrong was taken from the previous set")
	}
	third := oneRule(t, "name: r\nkeys: '/{id}'\nsend: {sink: hook}", Options{Previous: same})
	if len(third.compiled) != 0 {
		t.Errorf("the set keeps %d expressions that it does not use", len(third.compiled))
	}
}
