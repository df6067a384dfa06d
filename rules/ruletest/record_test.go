package ruletest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"keyhook"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

const recordedRules = `
sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}, {name: bus, nats: {url: 'nats://127.0.0.1'}}]
rules:
  - name: text
    keys: /a/{x}
    when: event.value != event.?last.value.orValue("")
    send:
      - {sink: hook, headers: {X-Time: string(event.time)}, body: '"from " + event.?prev.value.orValue("-") + "\nto " + event.value'}
      - {sink: bus, subject: '"a." + nats.token(params.x)'}
  - name: broken
    keys: /broken/{x}
    when: event.json.n > 3
    send: {sink: hook, body: 'event.json.text'}
  - {name: binary, keys: '/binary/{x...}', send: {sink: hook, body: event.bytes}}
`

// What was seen of an etcd becomes a test that passes: with its revisions,
// leases, values that are no text, and what failed.
func TestRecord(t *testing.T) {
	r, err := New(Options{Sink: treated, Config: func(path string) (Setup, strictyaml.Problems) {
		if path != "keyhook.yaml" {
			t.Errorf("the configuration is %s", path)
		}
		return Setup{Files: []rules.File{{Path: "a.yaml", Data: []byte(recordedRules)}}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	rec := &Recording{Name: `a "name"`, Config: "keyhook.yaml", Source: "/etcd/prod"}
	put := func(rev int64, after time.Duration, key, value string, lease int64, prev *keyhook.KeyValue) *keyhook.Event {
		ev := &keyhook.Event{
			Type: keyhook.Put, Key: []byte(key), Value: []byte(value), Revision: rev, CreateRevision: rev, Version: 1, Lease: lease,
			Time: now.Add(after), Prev: prev, Last: prev,
		}
		if prev != nil {
			ev.CreateRevision, ev.Version = prev.CreateRevision, prev.Version+1
		}
		return ev
	}
	old := &keyhook.KeyValue{Value: []byte(`{"say": "it's"}`), Revision: 900, CreateRevision: 800, Version: 7, Lease: 0x694d}
	for _, events := range [][]*keyhook.Event{
		{put(1000, 0, "/a/1", "new", 0x694d, old), put(1000, 0, "/binary/\xff", "\x00\xff", 0, nil)},
		{put(1003, 1500*time.Millisecond, "/broken/1", "no document", 0, nil)},
		{put(1004, 1500*time.Millisecond, "/broken/1", `{"n": 4}`, 0, &keyhook.KeyValue{Value: []byte("no document"), Revision: 1003, CreateRevision: 1003, Version: 1})},
		{{Type: keyhook.Delete, Key: []byte("/a/1"), Revision: 2000, Time: now.Add(time.Hour)}},
	} {
		if err := rec.Add(events); err != nil {
			t.Fatal(err)
		}
	}
	data, err := r.Record("a_test.yaml", rec)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"/a/1": {$value: '{"say": "it''s"}', $revision: 900, $create_revision: 800, $version: 7, $lease: lease-694d}`,
		`lease-694d: {ttl: 1h, id: "694d"}`,
		`"$base64:L2JpbmFyeS//": {$base64: AP8=}`,
		`at: 1.5s`, `at: 1h`, `revision: 2000`,
		`expect_errors: ["broken"]`, `reason: render`, `content_type: "application/octet-stream"`,
		`"X-Time": "2026-01-01T00:00:00Z"`, `"id": "1000-`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the file lacks %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", data)
	}
}

func TestRecordingIsBounded(t *testing.T) {
	rec := &Recording{}
	for i := range 100 {
		err := rec.Add([]*keyhook.Event{{Key: []byte("a"), Value: make([]byte, 1<<20), Revision: int64(i)}})
		if errors.Is(err, ErrRecordingFull) {
			return
		}
	}
	t.Error("there is no end to what a recording takes")
}
