package rules

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"keyhook"
	"keyhook/internal/strictyaml"
)

var errorLine = regexp.MustCompile(`^(f\.yaml:[0-9]+:[0-9]+: |    )[^\n]+$`)

// FuzzLoad: whatever is in a file, it loads, or each problem has its place; what
// loads can be evaluated, and loads again into the same set.
func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/load", "testdata/evaluate/conditions", "testdata/evaluate/messages"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "\n----\n") {
			_, input, _ := strings.Cut(part, "\nload\n")
			f.Add([]byte(input))
			if _, input, ok := strings.Cut(part, "\nrule\n"); ok {
				f.Add([]byte("rules:\n- " + strings.ReplaceAll(input, "\n", "\n  ") + "\nsinks: [{name: hook, webhook: {url: 'http://a/'}}]"))
			}
		}
	}
	f.Add([]byte("rules: &a [*a]"))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		opts := Options{Environment: testEnvironment}
		set, err := Load([]File{{Path: "f.yaml", Data: data}}, opts)
		if err != nil {
			var problems strictyaml.Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("an error of type %T: %v", err, err)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !errorLine.MatchString(line) {
					t.Fatalf("no place in %q", line)
				}
			}
			return
		}
		var res Result
		for _, key := range []string{"/a", "/service/demo/leader", "\xff", ""} {
			set.Evaluate(Source{Name: "/etcd/x"}, put(key, `{"a": 1}`), &res)
		}
		again, err := Load([]File{{Path: "f.yaml", Data: data}}, opts)
		if err != nil || describe(set) != describe(again) {
			t.Fatalf("the second time it was another set: %v", err)
		}
	})
}

// FuzzExpression: whatever is written as a condition and a body, and whatever the
// value is, loading and evaluating end with an outcome that is known, and the
// second time with the same.
func FuzzExpression(f *testing.F) {
	for _, seed := range []struct{ when, body, value string }{
		{`event.json.a == 1 && params.id in ["x", "y"]`, `{"a": event.json, "b": event.?prev.value.orValue("")}`, `{"a": 1}`},
		{`event.changed("a.b", "/c~1d") || event.changedExcept("x")`, `event.json.list.map(i, i.name).join(",")`, `{"list": [{"name": "x"}]}`},
		{`event.value.matches("^(a+)+$")`, `regex.replace(event.value, "(a+)", "\\1\\1")`, `aaaaaaaaaaaaaaaaaaaaaaaa`},
		{`cel.bind(v, event.json, v.a + v.a == v.b)`, `[event.bytes, base64.encode(event.key_bytes)]`, `{"a": "x", "b": "xx"}`},
		{`math.greatest(event.json.list) > 3 && sets.contains(event.json.list, [1])`, `event.json.list.sort().reverse()`, `{"list": [3, 1, 2]}`},
		{`has(event.prev) ? event.prev.json.a == event.json.a : optional.of(event.json).a.hasValue()`, `nats.token(event.key)`, "\xff\xfe"},
		{`event.value.split("").map(a, a + a).size() > 0`, `json.encode({event.value: [1.5, null, true, 2u]})`, `1e400`},
		{`event.type == "PUT" || "x" in event.json || event.json[?"a"].orValue(3) > 2.0`, `event`, `[[[[[]]]]]`},
	} {
		f.Add(seed.when, seed.body, []byte(seed.value))
	}
	f.Fuzz(func(t *testing.T, when, body string, value []byte) {
		if len(value) > 4096 {
			value = value[:4096]
		}
		quote := func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		set, err := Load([]File{{Path: "f.yaml", Data: []byte("sinks: [{name: hook, webhook: {url: 'http://a/'}}]\nrules:\n- name: r\n  keys: /{id}\n  when: " +
			quote(when) + "\n  send: {sink: hook, body: " + quote(body) + "}\n")}}, Options{Lint: &LintOptions{}})
		if err != nil {
			return
		}
		ev := put("/x", string(value))
		for range 2 {
			if first, again := outcome(set, ev, true), outcome(set, ev, true); first != again {
				t.Fatalf("%s\nthen\n%s", first, again)
			}
			ev.Prev = &keyhook.KeyValue{Value: value, Revision: 5, CreateRevision: 5, Version: 1}
			ev.Last = ev.Prev
		}
		var res Result
		set.Evaluate(Source{}, ev, &res)
		for _, d := range res.Deliveries {
			if d.Rejected != nil && d.Rejected.Reason == keyhook.ReasonPanic {
				t.Fatalf("a panic: %s", d.Rejected.Error)
			}
		}
	})
}
