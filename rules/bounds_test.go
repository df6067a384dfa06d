package rules

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"keyhook"
)

// valueSize is what etcd takes in one request by default, its key included.
const valueSize = 3<<19 - 1024

// largeList is a value of that size with one small object after the other.
func largeList() string {
	const item = `{"id":"aaaaaaaaaaaaaaaa","state":"running","n":1234567890}`
	return `{"items": [` + strings.Repeat(item+",", valueSize/(len(item)+1)-1) + item + "]}"
}

// largeNumbers is a value of that size with as many elements as it can hold; an
// eighth of them where the race detector makes each take ten times as long.
func largeNumbers() string {
	n := valueSize/2 - 16
	if raceEnabled {
		n /= 8
	}
	return `{"items": [` + strings.Repeat("1,", n) + "1]}"
}

// evaluateAs evaluates an expression as a condition or a body.
func evaluateAs(t *testing.T, place, expression string, ev *keyhook.Event) *keyhook.Delivery {
	t.Helper()
	body := "name: r\nkeys: /{id}\n"
	if place == "when" {
		body += "when: |\n  " + expression + "\nsend: {sink: hook, body: '\"x\"'}"
	} else {
		body += "send:\n  sink: hook\n  body: |\n    " + expression
	}
	var res Result
	oneRule(t, body, Options{}).Evaluate(Source{}, ev, &res)
	if len(res.Deliveries) != 1 {
		t.Fatalf("got %+v, want a delivery", res)
	}
	return res.Deliveries[0]
}

// TestLinearWork: what reads a value as large as etcd takes once is within all
// limits.
func TestLinearWork(t *testing.T) {
	objects, numbers := largeList(), largeNumbers()
	for _, c := range []struct{ place, expression, value string }{
		{"body", `event.json.items.map(i, i.id)`, objects},
		{"body", `event.json.items.map(i, {"id": i.id, "n": i.n})`, objects},
		{"body", `event.json.items.map(i, i.id + ":" + i.state).join(",")`, objects},
		{"body", `event.value.replace("a", "b")`, objects},
		{"body", `event.value.replace("running", "stopped")`, objects},
		{"body", `event.value.split("")`, objects},
		{"body", `regex.replace(event.value, "a+", "b")`, objects},
		{"body", `event.json.items.map(i, i)`, numbers},
		{"body", `event.json.items`, numbers},
		{"when", `event.json.items.exists(i, i.id == "none") || true`, objects},
		{"when", `event.json.items.filter(i, i.n > 5).size() > 1`, objects},
		{"when", `event.json.items.map(i, string(i.id)).sort().size() > 1`, objects},
		{"when", `event.json.items.all(i, i == 1)`, numbers},
		{"when", `event.json.items.filter(i, i == 1).size() > 1`, numbers},
		{"when", `!(2 in event.json.items)`, numbers},
		{"when", `!event.value.contains(event.prev.value)`, objects},
		{"when", `event.value.matches('"state":"r[a-z]+"')`, objects},
		{"when", `!event.value.matches("^([a-z]+[0-9]*)+$")`, objects},
	} {
		ev := put("/a", c.value)
		ev.Prev = &keyhook.KeyValue{Value: []byte(c.value + "x"), Revision: 6, CreateRevision: 5, Version: 1}
		ev.Last = ev.Prev
		if d := evaluateAs(t, c.place, c.expression, ev); d.Rejected != nil {
			t.Errorf("%s: %s: rejected (%s): %s", c.place, c.expression, d.Rejected.Reason, d.Rejected.Error)
		}
	}
}

// TestTooMuchWork: what grows faster than its input ends at a limit that depends
// on nothing but the event, and does so before it took long.
func TestTooMuchWork(t *testing.T) {
	most := conditionTier.cost
	if raceEnabled { // which makes each unit of cost take ten times as long
		most /= 16
	}
	costs, makes := fmt.Sprintf("costs more than %d", most), "makes a value of more than "
	objects, numbers := largeList(), largeNumbers()
	for _, c := range []struct{ place, expression, value, bound string }{
		{"when", `event.json.items.exists(a, event.json.items.exists(b, a.n + b.n == -1))`, objects, costs},
		// Refused before they begin: they would run for hours.
		{"when", `event.json.items.distinct().size() > 0`, numbers, costs},
		{"when", `sets.contains(event.json.items, event.json.items)`, numbers, costs},
		{"when", `event.value.indexOf(event.value + "x") > 0`, numbers, costs},
		// Charged for what is known at run time only.
		{"when", `event.json.items.exists(a, !(a in event.json.items))`, numbers, costs},
		{"when", `event.json.items.exists(a, event.json.s + event.json.s == "x")`, `{"items":[` + strings.Repeat("1,", 9999) + `1],"s":"` + strings.Repeat("s", 1<<20) + `"}`, costs},
		// Doubled again and again.
		{"when", `[event.value + event.value].map(a, a + a).map(a, a + a)[0] != ""`, objects, makes},
		{"body", `[event.value + event.value + event.value + event.value].map(a, a + a).map(a, a + a)[0]`, objects, makes},
		{"body", `event.json.items.map(a, event.value)`, objects, makes},
		{"body", `event.value.replace("", event.value)`, objects, makes},
		{"body", `event.value.replace("a", event.value)`, objects, makes},
		{"body", `event.value.split("").join(event.value)`, objects, makes},
		{"body", `regex.replace(event.value, "", "aaaaaaaaaaaaaaaaaaaa")`, objects, makes},
		{"body", `regex.replace(event.value, "(.*)", "\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1\\\\1")`, objects, makes},
	} {
		if c.bound == costs {
			conditionTier.cost = most
		}
		d := evaluateAs(t, c.place, c.expression, put("/a", c.value))
		conditionTier.cost = maxCost
		if d.Rejected == nil {
			t.Errorf("%s: %s: sent", c.place, c.expression)
		} else if d.Rejected.Reason != keyhook.ReasonLimit || !strings.Contains(d.Rejected.Error, c.bound) {
			t.Errorf("%s: %s: rejected (%s): %s; want: %s", c.place, c.expression, d.Rejected.Reason, d.Rejected.Error, c.bound)
		}
	}
}

// TestCatastrophicPattern: a pattern costs what it takes at worst, its number of
// instructions at each byte.
func TestCatastrophicPattern(t *testing.T) {
	for pattern, factor := range map[string]uint64{"x": 0, "(.{1,20}){1,10}zzzz": 10} {
		set := oneRule(t, "name: r\nkeys: /{id}\nsend: {sink: hook, body: '[event.value.matches(\""+pattern+"\")]'}", Options{})
		ev := put("/a", strings.Repeat("a", 10_000))
		st := set.states.get(Source{}, ev, maxCost)
		st.enter(set.rules[0], set.rules[0].patterns[0])
		if _, failed := set.rules[0].sends[0].body.eval(st, true); failed != nil {
			t.Fatal(failed)
		}
		used := maxCost - st.budget
		if least, most := factor*10_000, (factor+1)*3*10_000; used < least || used > most {
			t.Errorf("%s costs %d, want %d to %d", pattern, used, least, most)
		}
	}
}

// TestUnmeasuredIsBounded: what runs without being measured makes no more than
// 64 MiB of values of 1.5 MiB each, whatever it is, and what could is measured.
func TestUnmeasuredIsBounded(t *testing.T) {
	const bound = 64 << 20
	value := `{"s": "` + strings.Repeat("s", valueSize-16) + `"}`
	ev := put("/a", value)
	ev.Prev = &keyhook.KeyValue{Value: []byte(value), Revision: 6, CreateRevision: 5, Version: 1}
	ev.Last = ev.Prev
	for _, c := range []struct {
		body     string
		measured bool
	}{
		{`event.value + event.prev.value + event.json.s + event.prev.json.s`, false},
		{`{"a": event.value, "b": event.json, "c": event.prev.json, "d": [event.bytes, event.prev.bytes]}`, false},
		{`event.value.lowerAscii() + event.value.upperAscii()`, false},
		{`"a" + event.value + "b" + event.value + "c" + event.value + "d" + event.value + "e" + event.value`, true},
		{`[` + strings.Repeat("event.value, ", 20) + `""]`, true},
		{`[1, 2].map(i, event.value)`, true},
	} {
		set := oneRule(t, "name: r\nkeys: /{id}\nsend:\n  sink: hook\n  body: |\n    "+c.body, Options{})
		if got := set.rules[0].sends[0].body.tier != nil; got != c.measured {
			t.Errorf("%.60s: measured %t, want %t", c.body, got, c.measured)
			continue
		}
		if c.measured {
			continue
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var res Result
		set.Evaluate(Source{}, ev, &res)
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > bound {
			t.Errorf("%.60s: makes %d MiB, more than %d", c.body, made>>20, bound>>20)
		}
		if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected != nil {
			t.Errorf("%.60s: %+v", c.body, res.Deliveries)
		}
	}
}
