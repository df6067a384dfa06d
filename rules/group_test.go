package rules

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/internal/strictyaml"
)

func everyRule(*rule) bool { return true }

// linear is s without anything that leaves rules out by their conditions.
func (s *Set) linear() *Set {
	all := *s
	all.index = newIndex(s.rules, everyRule)
	return &all
}

// outcome is what an event came to, in words. Without failures those of
// conditions are left out.
func outcome(s *Set, ev *keyhook.Event, failures bool) string {
	var res Result
	s.Evaluate(Source{Name: "/etcd/x", Epoch: 1}, ev, &res)
	var b strings.Builder
	for _, m := range res.Matches {
		fmt.Fprintf(&b, "matched %s\n", m.Rule)
	}
	for _, d := range res.Deliveries {
		fmt.Fprintf(&b, "%s %s %s %+v\n", d.ID, d.Rule, d.Message.Body, d.Rejected)
	}
	if failures {
		for _, e := range res.Errors {
			fmt.Fprintf(&b, "failed %s: %s\n", e.Rule, e.Err)
		}
	}
	return b.String()
}

// Conditions are made of these, which have much in common with the events.
var (
	attributeTexts = []string{
		`event.type`, `event.key`, `event.value`, `event.json.a`, `event.json.b`, `event.json.a.b`, `event.json["a"]`,
		`event.?json.?a.orValue("x")`, `event.json.?a.orValue(1)`, `event.?last.?json.b.orValue(null)`, `event.prev.value`,
		`event.?prev.value.orValue("")`, `event.version`, `event.lease`, `event.created`, `event.value.lowerAscii()`,
		`event.json.list[0]`, `event.json`, `params.x`, `params.y`, `event.bytes`, `vars.v`, `event.json.n * 2`,
	}
	literalTexts = []string{
		`"x"`, `"y"`, `"X"`, `""`, `"PUT"`, `"/a/x"`, `"1"`, `1`, `1.0`, `1u`, `2`, `0`, `-1`, `0.5`, `true`, `false`, `null`, `b"x"`,
		`9007199254740992`, `9007199254740993`, `9007199254740992.0`, `-9007199254740993`, `18446744073709551615u`,
	}
	stringTexts = []string{`"x"`, `"/a/"`, `"y"`, `""`, `"xy"`, `"é"`}
	regexTexts  = []string{`"^x"`, `"^x+y?$"`, `"^(?:x)y"`, `"(?i)^X"`, `"^x|y"`, `"^[xX]"`, `"x"`, `"(?m)^y"`, `"^/a/.*x"`, `"^é"`}
	restTexts   = []string{
		`true`, `event.json.n > 1`, `has(event.prev)`, `!(event.json.a == "x")`, `event.json.list.exists(i, i == 1)`,
		`event.json.list.map(i, event.value).size() > 0`, `lists.range(20000000).size() > 0`, `event.changed("a")`,
		`size(params.x) > 1`, `[event.json.a, "x"].exists(v, v == params.x)`,
	}
	jsonTexts = []string{
		`"x"`, `"y"`, `1`, `1.0`, `2`, `true`, `null`, `{"b": "x"}`, `{"b": 1}`, `[1]`, `9007199254740992`, `9007199254740993`, `1e400`,
		`18446744073709551615`, `0.5`, `"1"`, `9007199254740992.5`,
	}
)

func drawTerm(t *rapid.T, depth int) string {
	pick := func(label string, of []string) string { return rapid.SampledFrom(of).Draw(t, label) }
	attribute := func() string { return pick("attribute", attributeTexts) }
	switch rapid.IntRange(0, 11).Draw(t, "term") {
	case 0, 1, 2:
		return attribute() + " == " + pick("literal", literalTexts)
	case 3:
		return pick("literal", literalTexts) + " == " + attribute()
	case 4:
		return attribute() + " in [" + pick("literal", literalTexts) + ", " + pick("literal", literalTexts) + "]"
	case 5:
		return attribute() + ".startsWith(" + pick("text", stringTexts) + ")"
	case 6:
		return attribute() + ".endsWith(" + pick("text", stringTexts) + ")"
	case 7:
		return attribute() + ".matches(" + pick("regex", regexTexts) + ")"
	case 8:
		return pick("rest", restTexts)
	default:
		if depth == 0 {
			return pick("rest", restTexts)
		}
		op := rapid.SampledFrom([]string{" && ", " && ", " || "}).Draw(t, "op")
		return "(" + drawTerm(t, depth-1) + op + drawTerm(t, depth-1) + ")"
	}
}

// drawRules draws a file; what does not compile alone is left out.
func drawRules(t *rapid.T, compiles func(rule string) bool) string {
	var file strings.Builder
	file.WriteString("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n")
	keys := []string{`["/a/{x}/{y}"]`, `["/a/{y}/{x}"]`, `["/a/{x}/{y}", "/{x}/{y...}"]`, `["/{x}/{y...}"]`}
	n := rapid.IntRange(1, 4).Draw(t, "terms")
	var terms []string
	for range n {
		terms = append(terms, drawTerm(t, 2))
	}
	rules := 0
	for i := range rapid.IntRange(2, 60).Draw(t, "rules") {
		when := rapid.SampledFrom(terms).Draw(t, "one of them")
		if rapid.IntRange(0, 2).Draw(t, "new") > 0 {
			when = drawTerm(t, 2)
		}
		if rapid.Bool().Draw(t, "and") {
			when += " && " + drawTerm(t, 1)
		}
		rule := fmt.Sprintf("- name: r%d\n  keys: %s\n  when: |\n    %s\n  vars: {v: event.json.a}\n  send: {sink: hook, body: '\"x\"'}\n",
			i, rapid.SampledFrom(keys).Draw(t, "keys"), when)
		if compiles(rule) {
			file.WriteString(rule)
			rules++
		}
	}
	if rules == 0 {
		file.WriteString("- {name: r, keys: '/{x}', send: {sink: hook}}\n")
	}
	return file.String()
}

func drawChange(t *rapid.T) *keyhook.Event {
	value := func(label string) []byte {
		switch rapid.IntRange(0, 4).Draw(t, label) {
		case 0:
			return []byte(rapid.SampledFrom([]string{"x", "y", "X", "xy", "", "\xff", "/a/x", "{"}).Draw(t, label+" as text"))
		case 1:
			return []byte(rapid.SampledFrom(jsonTexts).Draw(t, label+" as a scalar"))
		default:
			var members []string
			for _, name := range []string{"a", "b", "n"} {
				if rapid.IntRange(0, 3).Draw(t, name) > 0 {
					members = append(members, fmt.Sprintf("%q: %s", name, rapid.SampledFrom(jsonTexts).Draw(t, label+"."+name)))
				}
			}
			return []byte(`{` + strings.Join(append(members, `"list": [1]`), ", ") + `}`)
		}
	}
	ev := put("/"+rapid.SampledFrom([]string{"a/x/y", "a/y/x", "a/x/x", "x/x", "x/y/", "a/é/x"}).Draw(t, "key"), "")
	ev.Value, ev.Version, ev.Lease = value("value"), int64(rapid.IntRange(0, 2).Draw(t, "version")), int64(rapid.IntRange(0, 1).Draw(t, "lease"))
	if rapid.IntRange(0, 3).Draw(t, "deleted") == 0 {
		ev.Type, ev.Value = keyhook.Delete, nil
	}
	if rapid.Bool().Draw(t, "known") {
		ev.Prev = &keyhook.KeyValue{Value: value("previous"), Revision: 5, Version: 1}
		ev.Last = ev.Prev
	}
	return ev
}

// TestIndexedIsLinear: what the index leaves out makes no difference, failures
// and limits included.
func TestIndexedIsLinear(t *testing.T) {
	c, err := newCompiler(&planner{})
	if err != nil {
		t.Fatal(err)
	}
	compiles := func(rule string) bool {
		var file ruleFile
		if ps := strictyaml.Decode("a.yaml", []byte("rules:\n"+rule), &file); len(ps) > 0 {
			t.Fatal(ps)
		}
		b := &builder{c: c, sinks: map[string]SinkSpec{"hook": {}}}
		b.build(file.Rules[0])
		return len(b.problems) == 0
	}
	divided := 0
	rapid.Check(t, func(t *rapid.T) {
		set, err := Load(files(drawRules(t, compiles)), Options{})
		if err != nil {
			t.Fatal(err)
		}
		linear := set.linear()
		for _, g := range set.index.groups {
			divided += len(g.chosen)
		}
		for range 8 {
			ev := drawChange(t)
			if got, want := outcome(set, ev, true), outcome(linear, ev, true); got != want {
				t.Fatalf("%s %s %q (prev %v):\n%s\nwithout the index:\n%s", ev.Type, ev.Key, ev.Value, ev.Prev, got, want)
			}
		}
	})
	if divided < 20 {
		t.Fatalf("only %d attributes were chosen: nothing was tested", divided)
	}
}
