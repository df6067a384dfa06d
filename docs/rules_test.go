package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"keyhook"
	"keyhook/rules"
)

// The sinks that rules.md sends to.
const guideSinks = `sinks:
- {name: pager, webhook: {url: "http://127.0.0.1/pager"}}
- {name: chat, webhook: {url: "http://127.0.0.1/chat"}}
- {name: hook, webhook: {url: "http://127.0.0.1/hook"}}
- {name: bus, nats: {url: "nats://127.0.0.1"}}
`

var (
	fence     = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	guideTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// TestTheRulesGuide runs every example of rules.md: rules with the changes below
// them, and expressions with the change above them.
func TestTheRulesGuide(t *testing.T) {
	text, err := os.ReadFile("rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var set *rules.Set
	var change string
	run := map[string]int{}
	for _, b := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, content := b[1], b[2]
		switch kind {
		case "yaml":
			set = loadGuide(t, content)
			for _, w := range set.Warnings() {
				if w.Code != "unused-sink" { // no example uses all
					t.Errorf("the guide teaches what check warns of: %s", w.Report())
				}
			}
		case "changes":
			if set == nil {
				t.Fatalf("changes without a rule:\n%s", content)
			}
			if got := replay(t, set, content); got != content {
				t.Errorf("the guide says\n%s\nbut it is\n%s", content, got)
			}
			set = nil
		case "change":
			change = strings.TrimSpace(content)
		case "cel":
			for line := range strings.Lines(content) {
				expression(t, change, line)
				run["expressions"]++
			}
		}
		run[kind]++
	}
	if run["changes"] < 12 || run["changes"] != run["yaml"] || run["expressions"] < 20 {
		t.Errorf("only these were run: %v", run)
	}
}

func loadGuide(t *testing.T, content string) *rules.Set {
	t.Helper()
	set, err := rules.Load([]rules.File{
		{Path: "sinks.yaml", Data: []byte(guideSinks)},
		{Path: "rules.yaml", Data: []byte("rules:\n" + content)},
	}, rules.Options{Lint: &rules.LintOptions{}})
	if err != nil {
		t.Fatalf("%v\nof\n%s", err, content)
	}
	return set
}

// replay evaluates the changes of a block and returns it as it should be.
func replay(t *testing.T, set *rules.Set, content string) string {
	t.Helper()
	var out strings.Builder
	var batch []*keyhook.Event
	revision := int64(10)
	flush := func() {
		if len(batch) == 0 {
			return
		}
		var res, all rules.Result
		for range set.EvaluateBatch(rules.Source{Name: "/etcd/docs"}, batch, &res) {
			all.Deliveries = append(all.Deliveries, res.Deliveries...)
			all.Errors = append(all.Errors, res.Errors...)
		}
		describeResult(&out, &all)
		batch = nil
	}
	for line := range strings.Lines(content) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "→") {
			continue
		}
		more, joined := strings.CutPrefix(line, "+ ")
		if !joined {
			flush()
			revision++
		}
		batch = append(batch, readChange(t, more, revision))
		fmt.Fprintln(&out, line)
	}
	flush()
	return out.String()
}

func describeResult(out *strings.Builder, res *rules.Result) {
	for _, e := range res.Errors {
		fmt.Fprintf(out, "→ %s fails\n", e.Rule)
	}
	for _, d := range res.Deliveries {
		if d.Cancels {
			fmt.Fprintf(out, "→ cancels what waits for %s\n", d.Sink)
			continue
		}
		fmt.Fprintf(out, "→ %s ", d.Sink)
		if d.Timing.Every > 0 {
			fmt.Fprintf(out, "every %s ", d.Timing.Every)
		}
		if per, ok := bytes.CutPrefix(d.Chain, []byte("per:")); ok {
			fmt.Fprintf(out, "for %s: ", per)
		}
		if d.Timing.For > 0 {
			fmt.Fprintf(out, "after %s: ", d.Timing.For)
		}
		if d.Message.Subject != "" {
			fmt.Fprintf(out, "%s ", d.Message.Subject)
		}
		if d.Rejected != nil {
			fmt.Fprintf(out, "rejected: %s\n", d.Rejected.Error)
			continue
		}
		fmt.Fprintf(out, "%s\n", d.Message.Body)
	}
	if len(res.Errors)+len(res.Deliveries) == 0 {
		fmt.Fprintln(out, "→ nothing")
	}
}

// readChange reads "put KEY VALUE, before VALUE", where the value before may be
// "before its deletion" and may end with "with a lease".
func readChange(t *testing.T, line string, revision int64) *keyhook.Event {
	t.Helper()
	line, leased := strings.CutSuffix(line, " with a lease")
	line, last, deleted := strings.Cut(line, ", before its deletion ")
	line, prev, known := strings.Cut(line, ", before ")
	words := strings.SplitN(line, " ", 3)
	ev := &keyhook.Event{Key: []byte(words[1]), Revision: revision, Time: guideTime}
	switch words[0] {
	case "put":
		ev.Type, ev.CreateRevision, ev.Version = keyhook.Put, revision, 1
		ev.Value = unescape(t, words[2])
	case "delete":
		ev.Type = keyhook.Delete
	default:
		t.Fatalf("not a change: %q", line)
	}
	if known || deleted {
		ev.Last = &keyhook.KeyValue{Value: unescape(t, prev+last), Revision: 3, CreateRevision: 3, Version: 1}
		if leased {
			ev.Last.Lease = 7
		}
	}
	if known {
		ev.Prev = ev.Last
	}
	return ev
}

// unescape reads bytes as \xff.
func unescape(t *testing.T, s string) []byte {
	t.Helper()
	if !strings.Contains(s, `\x`) {
		return []byte(s)
	}
	text, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

// expression evaluates "EXPRESSION // JSON" as the body of a rule.
func expression(t *testing.T, change, line string) {
	t.Helper()
	cel, want, ok := strings.Cut(line, "// ")
	if !ok {
		t.Errorf("no value: %s", line)
		return
	}
	cel = strings.TrimSpace(cel)
	set := loadGuide(t, fmt.Sprintf("- name: r\n  keys: /registry/{name}\n  send:\n    sink: hook\n    body: |\n      [%s]\n", cel))
	var res rules.Result
	set.Evaluate(rules.Source{}, readChange(t, change, 5), &res)
	if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected != nil {
		t.Errorf("%s: %+v", cel, res.Deliveries)
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte("["+want+"]")); err != nil {
		t.Fatal(err)
	}
	if got := res.Deliveries[0].Message.Body; !bytes.Equal(got, compact.Bytes()) {
		t.Errorf("%s is %s, the guide says %s", cel, got, compact.Bytes())
	}
}
