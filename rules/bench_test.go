package rules

import (
	"fmt"
	"strings"
	"testing"

	"keyhook"
)

// BenchmarkEvaluate is the cost of one event.
func BenchmarkEvaluate(b *testing.B) {
	member := `{"conn_url":"postgres://127.0.0.1:5433/postgres","api_url":"http://127.0.0.1:8008/patroni","state":"running","role":"replica","version":"4.0.4","xlog_location":67108960,"timeline":3}`
	for _, bench := range []struct {
		name, rule string
		matches    bool
	}{
		{"no pattern", "keys: /other/{id}\nsend: {sink: hook}", false},
		{"false", "keys: /service/{id}\nwhen: event.type == 'DELETE'\nsend: {sink: hook}", false},
		{"changed", "keys: /service/{id}\nwhen: event.value != event.?last.value.orValue('')\nsend: {sink: hook}", false},
		{"param", "keys: /service/{id}\nwhen: params.id.startsWith('x')\nsend: {sink: hook}", false},
		{"json", "keys: /service/{id}\nwhen: event.json.state != 'running'\nsend: {sink: hook}", false},
		{"json optional", "keys: /service/{id}\nwhen: event.?json.?state.orValue('') != 'running'\nsend: {sink: hook}", false},
		{"measured", "keys: /service/{id}\nwhen: 'event.type in [\"x\"].map(s, s)'\nsend: {sink: hook}", false},
		{"failing", "keys: /service/{id}\nwhen: event.json.nope == 1\nsend: {sink: hook}", false},
		{"cloudevent", "keys: /service/{id}\nsend: {sink: hook}", true},
		{"text", "keys: /service/{id}\nsend: {sink: hook, body: '\"Member \" + params.id + \": \" + event.value'}", true},
		{"map", "keys: /service/{id}\nsend: {sink: hook, body: '{\"id\": params.id, \"state\": event.json.state}'}", true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			set := oneRule(b, "name: r\n"+bench.rule, Options{})
			old := &keyhook.KeyValue{Value: []byte(member), Revision: 5, CreateRevision: 5, Version: 1}
			ev := put("/service/pg1", member)
			ev.Prev, ev.Last = old, old
			var res Result
			b.ReportAllocs()
			for b.Loop() {
				res.Reset()
				set.Evaluate(Source{Name: "/etcd/prod", Epoch: 1}, ev, &res)
			}
			if got := len(res.Deliveries) > 0; got != bench.matches {
				b.Fatalf("%d deliveries, %v", len(res.Deliveries), res.Errors)
			}
		})
	}
}

// BenchmarkRules is the cost of one event among many rules with patterns of
// their own.
func BenchmarkRules(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		for name, pattern := range map[string]string{
			"prefixes": "/tenant-%d/{x...}",
			"suffixes": "/service/{x}/member-%d",
			"parts":    "/node/Query%d-{x}",
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				var file strings.Builder
				file.WriteString("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n")
				for i := range n {
					fmt.Fprintf(&file, "- {name: r%d, keys: '"+pattern+"', when: event.type == 'DELETE', send: {sink: hook}}\n", i, i)
				}
				set, err := Load([]File{{Path: "a.yaml", Data: []byte(file.String())}}, Options{})
				if err != nil {
					b.Fatal(err)
				}
				events := make([]*keyhook.Event, 10)
				for i := range events {
					key := strings.NewReplacer("{x...}", "a/b", "{x}", "pg1").Replace(fmt.Sprintf(pattern, i*n/10))
					events[i] = put(key, "x")
				}
				var res Result
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					res.Reset()
					set.Evaluate(Source{Name: "/etcd/prod", Epoch: 1}, events[i%len(events)], &res)
				}
			})
		}
	}
}

// BenchmarkLoad is the time of a reload.
func BenchmarkLoad(b *testing.B) {
	var file strings.Builder
	file.WriteString("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n")
	for i := range 1000 {
		fmt.Fprintf(&file, "- {name: r%d, keys: '/t%d/{x...}', when: 'event.type == \"DELETE\" && event.version > %d', send: {sink: hook}}\n", i, i, i)
	}
	for b.Loop() {
		if _, err := Load([]File{{Path: "a.yaml", Data: []byte(file.String())}}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
