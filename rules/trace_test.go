package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keyhook"
)

// TestTrace tells stories as TestEvaluate does. The answer is how each rule came
// to what it did: every part that was evaluated with its value, what decided
// marked with "*". "branches" lists what has been seen of each since "rules".
func TestTrace(t *testing.T) {
	datadriven.Walk(t, "testdata/trace", func(t *testing.T, path string) {
		var tracer *Tracer
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var b strings.Builder
			switch d.Cmd {
			case "rules":
				set, err := Load(files("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n"+d.Input), Options{})
				if err != nil {
					t.Fatal(err)
				}
				if tracer, err = set.Tracer(Source{Name: "/etcd/test"}); err != nil {
					t.Fatal(err)
				}
			case "event":
				var events []*keyhook.Event
				for line := range strings.Lines(d.Input) {
					events = append(events, parseEvent(t, strings.TrimSpace(line)))
				}
				traces, err := tracer.Trace(events)
				if err != nil {
					t.Fatal(err)
				}
				for _, tr := range traces {
					writeTrace(&b, &tr)
				}
			case "branches":
				all, err := tracer.Branches()
				if err != nil {
					t.Fatal(err)
				}
				for _, br := range all {
					fmt.Fprintf(&b, "%s %s %d:%d %s: true %t, false %t\n", br.Rule, br.What, br.Position.Line, br.Position.Column, br.Text, br.True, br.False)
				}
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return b.String()
		})
	})
}

func writeTrace(b *strings.Builder, tr *Trace) {
	fmt.Fprintf(b, "%s (%s)", tr.Rule.Name, tr.Pattern)
	for _, p := range tr.Params {
		fmt.Fprintf(b, " %s=%s", p.Name, p.Value)
	}
	fmt.Fprintf(b, ": matched %t\n", tr.Matched)
	if tr.Err != nil {
		fmt.Fprintf(b, "error: %s\n", tr.Err)
	}
	if tr.When != nil {
		writeStep(b, tr.When, 0)
	}
	for _, v := range tr.Vars {
		fmt.Fprintf(b, "vars.%s\n", v.Name)
		writeStep(b, v.Step, 1)
	}
	for _, d := range tr.Deliveries {
		fmt.Fprintf(b, "→ %s %s\n", d.Sink, d.Message.Body)
	}
}

func writeStep(b *strings.Builder, s *Step, depth int) {
	mark := " "
	if s.Decisive {
		mark = "*"
	}
	value := "not evaluated"
	switch {
	case s.Err != "":
		value = "error: " + s.Err
	case s.Evaluated:
		value = s.Value
	}
	fmt.Fprintf(b, "%s%s %d:%d %s: %s\n", strings.Repeat("  ", depth), mark, s.Position.Line, s.Position.Column, s.Text, value)
	for _, p := range s.Parts {
		writeStep(b, p, depth+1)
	}
}
