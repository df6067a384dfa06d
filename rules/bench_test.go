package rules

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

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

// layouts are rule sets of which one rule in n matches an event.
var layouts = []struct{ name, keys, when, key, value string }{
	{"prefixes", "/tenant-%d/{x...}", `event.type == "PUT"`, "/tenant-%d/a/b", "x"},
	{"suffixes", "/service/{x}/member-%d", `event.type == "PUT"`, "/service/pg1/member-%d", "x"},
	{"parts", "/node/Query%d-{x}", `event.type == "PUT"`, "/node/Query%d-1", "x"},
	{"json field", "/service/{x}", `event.type == "PUT" && event.json.tenant == "t%d"`, "/service/pg1", `{"tenant": "t%d", "state": "running", "role": "replica"}`},
	{"capture", "/service/{x}/leader", `params.x == "s%d"`, "/service/s%d/leader", "x"},
}

// manyRules is a file with n rules of a layout.
func manyRules(keys, when string, n int) []File {
	numbered := func(format string, i int) string { return strings.ReplaceAll(format, "%d", strconv.Itoa(i)) }
	var file strings.Builder
	file.WriteString("sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n")
	for i := range n {
		fmt.Fprintf(&file, "- {name: r%d, keys: '%s', when: '%s', send: {sink: hook}}\n", i, numbered(keys, i), numbered(when, i))
	}
	return []File{{Path: "a.yaml", Data: []byte(file.String())}}
}

// BenchmarkRules is the cost of one event among many rules, one of which matches
// it and renders a CloudEvent.
func BenchmarkRules(b *testing.B) {
	for _, l := range layouts {
		for _, n := range []int{10, 1000, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(l.name, " ", "_"), n), func(b *testing.B) {
				set, err := Load(manyRules(l.keys, l.when, n), Options{})
				if err != nil {
					b.Fatal(err)
				}
				events := make([]*keyhook.Event, 10)
				for i := range events {
					number := strconv.Itoa(i * n / 10)
					events[i] = put(strings.ReplaceAll(l.key, "%d", number), strings.ReplaceAll(l.value, "%d", number))
				}
				var res Result
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					res.Reset()
					set.Evaluate(Source{Name: "/etcd/prod", Epoch: 1}, events[i%len(events)], &res)
					if len(res.Deliveries) != 1 {
						b.Fatalf("%d deliveries, %v", len(res.Deliveries), res.Errors)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkLoad is the time and the memory of ten thousand rules.
func BenchmarkLoad(b *testing.B) {
	for name, when := range map[string]string{
		"conditions":     `event.type == "DELETE" && event.version > %d`,
		"comprehensions": `event.json.tags.exists(t, t == "t%d")`,
	} {
		b.Run(name, func(b *testing.B) {
			files := manyRules("/t%d/{x...}", when, 10_000)
			var before, after runtime.MemStats
			for b.Loop() {
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&before)
				b.StartTimer()
				set, err := Load(files, Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(set)
				b.StartTimer()
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		})
	}
}

// BenchmarkScale holds 10,000 rules against 10 in turns, so that what else the
// machine does hits both: the ratio of the best rounds is what 10,000 rules
// reach of the speed of 10.
func BenchmarkScale(b *testing.B) {
	const rounds, evaluations = 400, 500
	for _, l := range layouts {
		b.Run(strings.ReplaceAll(l.name, " ", "_"), func(b *testing.B) {
			var sets [2]*Set
			var events [2][]*keyhook.Event
			for i, n := range []int{10, 10_000} {
				set, err := Load(manyRules(l.keys, l.when, n), Options{})
				if err != nil {
					b.Fatal(err)
				}
				sets[i] = set
				for j := range 10 {
					number := strconv.Itoa(j * n / 10)
					events[i] = append(events[i], put(strings.ReplaceAll(l.key, "%d", number), strings.ReplaceAll(l.value, "%d", number)))
				}
			}
			var best [2]time.Duration
			var res Result
			for b.Loop() {
				for range rounds {
					for i, set := range sets {
						at := time.Now()
						for j := range evaluations {
							res.Reset()
							set.Evaluate(Source{Name: "/etcd/prod", Epoch: 1}, events[i][j%10], &res)
						}
						if took := time.Since(at); best[i] == 0 || took < best[i] {
							best[i] = took
						}
					}
				}
			}
			b.ReportMetric(float64(best[0])/float64(best[1]), "of_10_rules")
			b.ReportMetric(float64(evaluations)/best[1].Seconds(), "events/s")
		})
	}
}
