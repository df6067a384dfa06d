package rules

import (
	"strings"
	"testing"

	"keyhook"
)

// A dead letter is rendered with the rules of another day than that on which it
// was given up.
func TestAgain(t *testing.T) {
	const sinks = "sinks: [{name: hook, webhook: {url: 'http://a/'}}, {name: other, webhook: {url: 'http://b/'}}]\n"
	first := loadText(t, sinks+`
rules:
  - name: r
    keys: /a/{x}
    when: event.value != "never"
    send: {sink: hook, name: s, body: 'string(event.json.n)'}
`)
	source := Source{Name: "/etcd/prod", Epoch: 2}
	given := func(value string) *keyhook.Delivery {
		var res Result
		first.Evaluate(source, put("/a/k", value), &res)
		if len(res.Deliveries) != 1 {
			t.Fatalf("%d deliveries", len(res.Deliveries))
		}
		return res.Deliveries[0]
	}
	sent, poison := given(`{"n": 1}`), given(`{}`)
	if sent.Rejected != nil || poison.Rejected == nil || poison.Rejected.Reason != keyhook.ReasonRender {
		t.Fatalf("got %+v and %+v", sent.Rejected, poison.Rejected)
	}
	undecided := *poison
	undecided.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonLimit}

	for name, tt := range map[string]struct {
		rules string
		of    *keyhook.Delivery
		want  string // the body, or a part of the error
		sink  string
	}{
		"as it was":           {"{name: r, keys: '/a/{x}', send: {sink: hook, name: s, body: 'string(event.json.n)'}}", sent, "1", "hook"},
		"another body":        {"{name: r, keys: '/a/{x}', send: {sink: hook, name: s, body: 'params.x + event.value'}}", poison, "k{}", "hook"},
		"another sink":        {"{name: r, keys: '/a/{x}', send: {sink: other, name: s, body: '\"b\"'}}", sent, "b", "other"},
		"another pattern":     {"{name: r, keys: ['/b/{y...}', '/{y...}'], send: {sink: hook, name: s, body: 'params.y'}}", sent, "a/k", "hook"},
		"it matched then":     {"{name: r, keys: '/a/{x}', when: 'false', send: {sink: hook, name: s, body: '\"b\"'}}", sent, "b", "hook"},
		"nobody knows":        {"{name: r, keys: '/a/{x}', when: 'false', send: {sink: hook, name: s, body: '\"b\"'}}", &undecided, "does not hold for it", ""},
		"the condition fails": {"{name: r, keys: '/a/{x}', when: 'event.json.m == 1', send: {sink: hook, name: s, body: '\"b\"'}}", &undecided, "no such key: m", ""},
		"it fails still":      {"{name: r, keys: '/a/{x}', send: {sink: hook, name: s, body: 'event.json.n'}}", poison, "no such key: n", ""},
		"no such rule":        {"{name: q, keys: '/a/{x}', send: {sink: hook, name: s}}", sent, `there is no rule "r" any more`, ""},
		"no such send":        {"{name: r, keys: '/a/{x}', send: {sink: hook}}", sent, `has no send "s" any more`, ""},
		"not its key":         {"{name: r, keys: '/b/{x}', send: {sink: hook, name: s}}", sent, "does not take its key any more", ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := *tt.of
			got, err := loadText(t, sinks+"rules:\n  - "+tt.rules+"\n").Again(source, tt.of)
			switch {
			case tt.sink == "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			case tt.sink == "":
			case err != nil:
				t.Fatal(err)
			case got.ID != tt.of.ID || got.Event != tt.of.Event || got.Sink != tt.sink || string(got.Message.Body) != tt.want || got.Rejected != nil:
				t.Fatalf("got %+v with the body %s", got, got.Message.Body)
			}
			if tt.of.Sink != before.Sink || string(tt.of.Message.Body) != string(before.Message.Body) || tt.of.Rejected != before.Rejected {
				t.Error("the dead letter was changed")
			}
		})
	}

	// The default message names the delivery as it did.
	plain := loadText(t, sinks+"rules: [{name: r, keys: '/a/{x}', send: {sink: hook, name: s}}]\n")
	got, err := plain.Again(Source{Name: "/etcd/prod", Epoch: 9}, sent)
	if err != nil || !strings.Contains(string(got.Message.Body), `"id":"`+sent.ID+`"`) {
		t.Errorf("%v: %s", err, got.Message.Body)
	}
}

// loadText loads one file.
func loadText(t *testing.T, text string) *Set {
	t.Helper()
	set, err := Load([]File{{Path: "rules.yaml", Data: []byte(text)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
