package rules

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"go.uber.org/goleak"

	"keyhook"
)

// deadlines are those of a real run.
var deadlines = [...]time.Duration{conditionTier.deadline, messageTier.deadline}

// TestMain takes the deadlines out of the way: how fast the machine is decides
// no test.
func TestMain(m *testing.M) {
	conditionTier.deadline, messageTier.deadline = time.Hour, time.Hour
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(code) }))
}

// oneRule loads the body of one rule, indented by nothing, with a sink "hook".
func oneRule(t testing.TB, body string, opts Options) *Set {
	t.Helper()
	body = "sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n- " + strings.ReplaceAll(strings.TrimSpace(body), "\n", "\n  ")
	set, err := Load([]File{{Path: "a.yaml", Data: []byte(body)}}, opts)
	if err != nil {
		t.Fatalf("\n%s", err)
	}
	return set
}

func put(key, value string) *keyhook.Event {
	return &keyhook.Event{Type: keyhook.Put, Key: []byte(key), Value: []byte(value), Revision: 7, CreateRevision: 5, Version: 2, Time: testTime}
}

// TestTiers says which conditions run without being measured.
func TestTiers(t *testing.T) {
	for when, measured := range map[string]bool{
		`true`:                false,
		`event.type == "PUT"`: false,
		`event.value != event.?last.value.orValue("")`:                         false,
		`event.type == "PUT" && params.id.startsWith("a") && event.lease != 0`: false,
		`event.json.state == "running"`:                                        false,
		`event.json.?a.b.orValue("") != event.?prev.json.a.b.orValue("")`:      true, // may be whole documents
		`event.?json.?state.orValue("") == "running"`:                          false,
		`event.json.n > 10 && event.json.n * 2 < 100`:                          false,
		`event.value.contains("needle")`:                                       false,
		`event.key.matches("^/a/[0-9]+$")`:                                     false,
		`event.type in ["PUT", "DELETE"]`:                                      false,
		`"x" in event.json.tags`:                                               true, // the whole list is compared
		`size(event.json.tags) > 3`:                                            false,
		`event.json.tags.exists(t, t == "x")`:                                  true,
		`event.json.a + event.json.b == "xy"`:                                  false, // both are of one input
		`cel.bind(v, event.value, v == "x")`:                                   true,
		`lists.range(1000000).size() > 3`:                                      true,
		`event.value.replace("a", event.value).size() > 3`:                     true,
	} {
		set := oneRule(t, fmt.Sprintf("name: r\nkeys: /{id}\nsend: {sink: hook}\nwhen: |\n  %s", when), Options{})
		if got := set.rules[0].when.tier != nil; got != measured {
			t.Errorf("%s: measured %t, want %t", when, got, measured)
		}
	}
}

// TestDeadline ends an expression that runs for too long.
func TestDeadline(t *testing.T) {
	set := oneRule(t, `
name: slow
keys: /{id}
when: event.json.list.exists(a, event.json.list.exists(b, a + b == -1))
send: {sink: hook}
`, Options{})
	set.rules[0].when.tier = &tier{deadline: time.Nanosecond}
	ev := put("/a", `{"list": [`+strings.Repeat("1,", 100)+"1]}")
	var res Result
	set.Evaluate(Source{}, ev, &res)
	if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected == nil {
		t.Fatalf("got %+v, want one rejected delivery", res)
	}
	if r := res.Deliveries[0].Rejected; r.Reason != keyhook.ReasonLimit || !strings.Contains(r.Error, "ran longer than 1ns") {
		t.Fatalf("got %+v", r)
	}
}

// TestSlowMachine: a condition and a body that take long on a loaded machine come
// out as they do on an idle one.
func TestSlowMachine(t *testing.T) {
	conditionTier.deadline, messageTier.deadline = deadlines[0], deadlines[1]
	defer func() { conditionTier.deadline, messageTier.deadline = time.Hour, time.Hour }()
	synctest.Test(t, func(t *testing.T) {
		slow := Options{language: []cel.EnvOption{cel.Function("slow",
			cel.Overload("slow_dyn", []*cel.Type{cel.DynType}, cel.BoolType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				if v == types.Int(0) {
					<-time.After(5 * time.Second) // of the test's clock
				}
				return types.True
			})),
		)}}
		set := oneRule(t, `
name: slow
keys: /{id}
when: event.json.all(i, slow(i))
send: {sink: hook, body: '[event.json.all(i, slow(i))]'}
`, slow)
		var res Result
		set.Evaluate(Source{}, put("/a", "[0"+strings.Repeat(",1", 1000)+"]"), &res)
		if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected != nil {
			t.Fatalf("got %+v, want a delivery", res)
		}
	})
}

// TestBudget: the measured expressions of a rule share a budget for one event;
// other rules and the next event have their own.
func TestBudget(t *testing.T) {
	const sends = 20
	var file strings.Builder
	file.WriteString("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n- name: greedy\n  keys: /{id}\n  send:\n")
	for i := range sends {
		fmt.Fprintf(&file, "  - {sink: hook, name: s%d, body: '[event.json.list.all(a, a == 1)]'}\n", i)
	}
	file.WriteString("- {name: modest, keys: '/{id}', when: 'event.json.list.exists(a, a == 1)', send: {sink: hook, body: '[\"x\"]'}}\n")
	set, err := Load([]File{{Path: "a.yaml", Data: []byte(file.String())}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	set.budget = 10_000
	ev := put("/a", `{"list": [`+strings.Repeat("1,", 300)+"1]}")
	var first []string
	for range 2 {
		var res Result
		set.Evaluate(Source{}, ev, &res)
		if len(res.Deliveries) != sends+1 || len(res.Errors) != 0 {
			t.Fatalf("%d deliveries and %d errors, want %d and none", len(res.Deliveries), len(res.Errors), sends+1)
		}
		var outcomes []string
		for _, d := range res.Deliveries {
			switch {
			case d.Rejected == nil:
				outcomes = append(outcomes, "sent")
			case d.Rejected.Reason == keyhook.ReasonLimit:
				outcomes = append(outcomes, "limit")
			default:
				t.Fatalf("rejected: %+v", d.Rejected)
			}
		}
		if outcomes[0] != "sent" || outcomes[sends-1] != "limit" || outcomes[sends] != "sent" {
			t.Fatalf("got %v, want the last of greedy over the limit, and modest sent", outcomes)
		}
		if first == nil {
			first = outcomes
		} else if fmt.Sprint(first) != fmt.Sprint(outcomes) {
			t.Fatal("the same event came out differently")
		}
	}
}

// boom is a function that panics, as a bug would.
func boom() Options {
	return Options{language: []cel.EnvOption{cel.Function("boom",
		cel.Overload("boom_bool", []*cel.Type{cel.StringType}, cel.BoolType, cel.UnaryBinding(func(ref.Val) ref.Val {
			panic("boom")
		})),
	)}}
}

// TestPanic: a panic is a dead letter of the rule that had it; the other rules
// and the next event go on.
func TestPanic(t *testing.T) {
	for name, body := range map[string]string{
		"when":     "when: boom(event.key)\nsend: {sink: hook}",
		"measured": "when: '[1].exists(x, boom(event.key))'\nsend: {sink: hook}",
		"absorbed": "when: vars.x || true\nvars: {x: boom(event.key)}\nsend: {sink: hook}",
		"var":      "vars: {x: boom(event.key)}\nsend: {sink: hook, body: '[vars.x]'}",
		"body":     "send: {sink: hook, body: '[boom(event.key)]'}",
		"header":   "send: {sink: hook, headers: {X: 'string(boom(event.key))'}}",
	} {
		t.Run(name, func(t *testing.T) {
			set := oneRule(t, "name: bad\nkeys: /{id}\n"+body, boom())
			for range 2 {
				var res Result
				set.Evaluate(Source{}, put("/a", "x"), &res)
				if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected == nil {
					t.Fatalf("got %+v, want one rejected delivery", res)
				}
				d := res.Deliveries[0]
				if d.Rejected.Reason != keyhook.ReasonPanic || !strings.Contains(d.Rejected.Error, "boom") {
					t.Fatalf("got %+v", d.Rejected)
				}
				if d.ID == "" || d.Event == nil || d.Sink != "hook" || len(d.Message.Body) != 0 {
					t.Fatalf("an incomplete delivery: %+v", d)
				}
			}
		})
	}
}

// TestPanicOutsideOfCEL: an event that no rule expects, of no known type.
func TestPanicOutsideOfCEL(t *testing.T) {
	set := oneRule(t, "name: bad\nkeys: /{id}\nwhen: event.type == 'x'\nsend: {sink: hook}", Options{})
	ev := put("/a", "x")
	ev.Type = 77
	var res Result
	set.Evaluate(Source{}, ev, &res)
	if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected == nil || res.Deliveries[0].Rejected.Reason != keyhook.ReasonPanic {
		t.Fatalf("got %+v", res)
	}
}
