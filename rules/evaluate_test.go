package rules

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"

	"keyhook"
)

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)

// TestEvaluate tells stories: "rules" loads the body of one rule or, with "file",
// a whole file; each "event" is a change, given as
//
//	put /key rev=7 version=2 lease=1f prev="value" last="value" value="..."
//
// where prev and last have revision 5. Large values are written as list=N (a JSON
// list of N numbers), s=N (a JSON string of N bytes) and depth=N (lists in each
// other). The answer is what it came to; long bodies are cut. "revision" is a
// batch of changes for the rules that take those of a revision together, "gap"
// one in the history of a prefix.
func TestEvaluate(t *testing.T) {
	datadriven.Walk(t, "testdata/evaluate", func(t *testing.T, path string) {
		var set *Set
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "rules":
				input := d.Input
				if !d.HasArg("file") {
					input = "sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n- " + strings.ReplaceAll(input, "\n", "\n  ")
				}
				var err error
				if set, err = Load(files(input), Options{routes: true}); err != nil {
					set = nil
					return err.Error()
				}
				return "loaded"
			case "event":
				if set == nil {
					return "no rules are loaded"
				}
				var b strings.Builder
				for line := range strings.Lines(d.Input) {
					evaluateLine(t, &b, set, strings.TrimSpace(line))
				}
				return b.String()
			case "revision":
				var b strings.Builder
				var events []*keyhook.Event
				for line := range strings.Lines(d.Input) {
					events = append(events, parseEvent(t, strings.TrimSpace(line)))
				}
				var all Result
				groups := set.groups(Source{Name: "/etcd/test", Epoch: 1}, events)
				for _, ev := range events {
					all.add(groups[ev])
				}
				writeResult(&b, &all)
				return b.String()
			case "gap":
				var b strings.Builder
				var res Result
				gap := keyhook.Gap{Range: keyhook.Prefix([]byte(strings.TrimSpace(d.Input))), Reason: keyhook.GapCompacted, Epoch: 1, From: 3, To: 9, Created: 1, Deleted: 2, At: testTime}
				set.EvaluateGap(Source{Name: "/etcd/test"}, &gap, &res)
				writeResult(&b, &res)
				return b.String()
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

func evaluateLine(t *testing.T, b *strings.Builder, set *Set, line string) {
	t.Helper()
	var res Result
	set.Evaluate(Source{Name: "/etcd/test", Epoch: 1}, parseEvent(t, line), &res)
	writeResult(b, &res)
}

func writeResult(b *strings.Builder, res *Result) {
	if len(res.Deliveries)+len(res.Errors)+len(res.Matches) == 0 {
		fmt.Fprintln(b, "nothing")
	}
	for _, e := range res.Errors {
		fmt.Fprintf(b, "%s failed: %s\n", e.Rule, e.Err)
	}
	for _, d := range res.Deliveries {
		fmt.Fprintf(b, "%s/%s → %s", d.Rule, d.Send, d.Sink)
		if d.Timing.For > 0 {
			fmt.Fprintf(b, " for %s", d.Timing.For)
		}
		if d.Timing.Every > 0 {
			fmt.Fprintf(b, " every %s", d.Timing.Every)
		}
		if d.Chain != nil {
			fmt.Fprintf(b, " chain %q", d.Chain)
		}
		for i, e := range d.Group {
			if i == 0 {
				fmt.Fprint(b, " group")
			}
			fmt.Fprintf(b, " %s", e.Key)
		}
		if d.Cancels {
			fmt.Fprintf(b, " cancels %s\n", d.ChainKey())
			continue
		}
		if d.Rejected != nil {
			fmt.Fprintf(b, " rejected (%s): %s\n", d.Rejected.Reason, d.Rejected.Error)
			continue
		}
		fmt.Fprintf(b, " %s", d.Message.ContentType)
		if d.Message.Subject != "" {
			fmt.Fprintf(b, " subject %s", d.Message.Subject)
		}
		for _, h := range d.Message.Headers {
			fmt.Fprintf(b, " %s=%q", h.Name, h.Value)
		}
		body := string(d.Message.Body)
		if len(body) > 1000 {
			body = fmt.Sprintf("%s… (%d bytes)", body[:100], len(body))
		}
		if !utf8.ValidString(body) {
			body = strconv.Quote(body)
		}
		fmt.Fprintf(b, "\n  %s\n", strings.ReplaceAll(body, "\n", "\n  "))
	}
}

// parseEvent reads a change as TestEvaluate writes it.
func parseEvent(t *testing.T, line string) *keyhook.Event {
	t.Helper()
	ev := &keyhook.Event{Revision: 7, CreateRevision: 5, Version: 2, Time: testTime}
	words := splitWords(t, line)
	if len(words) < 2 {
		t.Fatalf("not an event: %q", line)
	}
	switch words[0] {
	case "put":
		ev.Type = keyhook.Put
	case "delete":
		ev.Type = keyhook.Delete
		ev.CreateRevision, ev.Version = 0, 0
	default:
		t.Fatalf("not an event: %q", line)
	}
	ev.Key = []byte(words[1])
	old := func(value string) *keyhook.KeyValue {
		return &keyhook.KeyValue{Value: []byte(value), Revision: 5, CreateRevision: 5, Version: 1, Lease: 0x1f}
	}
	for _, w := range words[2:] {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "value":
			ev.Value = []byte(value)
		case "prev":
			ev.Prev = old(value)
			ev.Last = ev.Prev
		case "last":
			ev.Last = old(value)
		case "lease":
			ev.Lease = number64(t, value, 16)
		case "rev":
			ev.Revision = number64(t, value, 10)
		case "version":
			ev.Version = number64(t, value, 10)
		case "list":
			ev.Value = []byte(`{"list": [` + strings.Repeat("1,", int(number64(t, value, 10))-1) + "1]}")
		case "s":
			ev.Value = []byte(`{"s": "` + strings.Repeat("x", int(number64(t, value, 10))) + `"}`)
		case "depth":
			n := int(number64(t, value, 10))
			ev.Value = []byte(strings.Repeat("[", n) + strings.Repeat("]", n))
		case "synthetic":
			ev.Synthetic = true
		default:
			t.Fatalf("unknown word %q", w)
		}
	}
	return ev
}

func number64(t *testing.T, s string, base int) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, base, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// splitWords splits at spaces; a word may be, or end with, a quoted Go string.
func splitWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		end := strings.IndexByte(line, ' ')
		quote := strings.IndexAny(line, "\"`")
		if quote >= 0 && (end < 0 || quote < end) {
			quoted, err := strconv.QuotedPrefix(line[quote:])
			if err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			text, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%v in %q", err, line)
			}
			words = append(words, line[:quote]+text)
			line = line[quote+len(quoted):]
			continue
		}
		if end < 0 {
			end = len(line)
		}
		words = append(words, line[:end])
		line = line[end:]
	}
	return words
}
