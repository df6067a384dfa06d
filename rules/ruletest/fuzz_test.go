package ruletest

import (
	"bytes"
	"os"
	"regexp"
	"testing"
)

// Whatever is in a file of tests, it is refused with places or it runs; and what
// an update makes of it is a file that is as right as before, with the bodies that
// arrived.
func FuzzFile(f *testing.F) {
	const ruleFile = `
sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}, retry: {max_age: 1h}}, {name: bus, nats: {url: 'nats://127.0.0.1'}, retry: {max_attempts: 3}}]
rules:
  - {name: all, keys: '/{x...}', send: {sink: hook, body: event.value}}
  - {name: json, keys: '/json/{x}', when: 'event.json.a == 1 || event.type == "DELETE"', send: {sink: bus, subject: '"a"'}}
`
	for _, path := range []string{"testdata/stories/patroni.txt", "testdata/stories/update.txt"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range regexp.MustCompile(`(?ms)^(?:test|update)[^\n]*\n(.*?)^----$`).FindAllSubmatch(data, -1) {
			text := bytes.ReplaceAll(part[1], []byte("/service/"), []byte("/"))
			for old, name := range map[string]string{"patroni-failover": "all", "patroni-member": "json", "document": "all", "text": "all", "pager": "hook"} {
				text = bytes.ReplaceAll(text, []byte(old), []byte(name))
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := New(Options{Sink: treated, Coverage: true, ReadFile: func(string) ([]byte, error) { return []byte(ruleFile), nil }})
		if err != nil {
			t.Fatal(err)
		}
		file, problems := r.Load("a_test.yaml", data)
		for _, p := range problems {
			if p.Path == "" || p.Message == "" {
				t.Errorf("a problem without a place: %+v", p)
			}
		}
		if file == nil {
			return
		}
		res := file.Run(nil)
		report := Report{Files: []FileResult{res}}
		var b bytes.Buffer
		if err := report.WriteText(&b, true); err != nil {
			t.Fatal(err)
		}
		if err := report.WriteJUnit(&b); err != nil {
			t.Fatal(err)
		}
		after, n, err := file.Update(res)
		if err != nil || n == 0 {
			return
		}
		again, problems := r.Load("a_test.yaml", after)
		if len(problems) > 0 {
			t.Fatalf("the update is wrong:\n%s\n%s", problems, after)
		}
		now := again.Run(nil)
		if before := res.Failed(); now.Failed() > before {
			t.Errorf("%d tests fail after the update, %d before:\n%s", now.Failed(), before, after)
		}
		if _, left, err := again.Update(now); err != nil || left > 0 {
			t.Errorf("%d bodies are left to update (%v):\n%s", left, err, after)
		}
	})
}
