package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/internal/compare"
)

// A proposal is compared with what runs: what it changes, and what is still owed
// for what would be gone. Nothing of it happens.
func TestCheckAgainstWhatRuns(t *testing.T) {
	s := newShop(t)
	s.start()
	s.put("/b/1", "x")
	s.put("/b/2", "x")
	s.eventually("both are owed", func() bool { return len(s.list("owed", "list")) == 2 })
	if out, _ := s.run(0, "check", "--against", "running"); !strings.HasSuffix(out, "\nno change against what is running\n") {
		t.Errorf("the same files:\n%s", out)
	}

	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(s.config)
	rules := strings.NewReplacer("%[1]s", s.box.URL(), "%[2]s", "event.json.title", "name: text", "name: title\n    was: text\n    for: 15s\n    when: event.changed()",
		"keys: /a/", "keys: /c/").Replace(shopRules)
	rules, _, _ = strings.Cut(rules, "  - name: down\n    keys")
	rules = strings.Replace(rules, "rules:\n", "  - {name: spare, webhook: {url: \"http://127.0.0.1:1/s3cret\"}}\nrules:\n", 1)
	for name, text := range map[string]string{
		"next.yaml":        string(text) + "\nrules: [proposed/*.yaml]\ndead_letters: {max_age: 30d}\n",
		"proposed/a.yaml":  rules,
		"another/a.yaml":   rules,
		"another/kh.yaml":  "rules: [a.yaml]\n",
		"another/bad.yaml": "rules: [none.yaml]\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next := filepath.Join(dir, "next.yaml")
	code, out, errs := keyhook("check", "--against", "RUNNING", "-c", next)
	_, changes, _ := strings.Cut(out, "\nchanges against what is running\n")
	const want = `  - rule down                     owes 2 deliveries
  ~ rule title                    was text, and takes what that owes
  ~ rule title                    keys: /a/{x...} → /c/{x...}
  ~ rule title                    when: changed
  ~ rule title                    for: added: 15s
  ~ rule title                    send box: body: changed
  + sink spare
  + range /c/                     begins as etcd.start says
  - range /a/                     given up, with its position and what is remembered of its keys
  - range /b/                     given up, with its position and what is remembered of its keys
  ~ setting rules                 rules/*.yaml → proposed/*.yaml; at the next start
  ~ setting dead_letters.max_age  added: 720h0m0s; at the next start
`
	if code != 0 || changes != want {
		t.Errorf("code %d, %s\n%s", code, errs, out)
	}

	code, out, errs = keyhook("check", "--against", "running", "--output", "json", "-c", next)
	var got struct{ Changes compare.Changes }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("code %d, %v: %s%s", code, err, out, errs)
	}
	if removed := got.Changes.Rules.Removed; len(removed) != 1 || removed[0] != (compare.Removed{Name: "down", Owed: 2}) || strings.Contains(out, "s3cret") {
		t.Errorf("%s", out)
	}
	if out, _ := s.run(0, "check", "--against", "running"); !strings.HasSuffix(out, "\nno change against what is running\n") {
		t.Errorf("comparing has changed something:\n%s", out)
	}
	// Against a file nothing need run.
	code, out, errs = keyhook("check", "--against", next, "-c", s.config)
	if code != 0 || !strings.Contains(out, "+ rule down") || !strings.Contains(out, "+ rule text") || !strings.Contains(out, "- rule title") {
		t.Errorf("against a file: code %d, %s\n%s", code, errs, out)
	}
	code, _, errs = keyhook("check", "--against", filepath.Join(dir, "another", "bad.yaml"), "-c", s.config)
	if code != 2 || !strings.Contains(errs, "none.yaml") {
		t.Errorf("against a wrong file: code %d, %s", code, errs)
	}

	s.close()
	_, errs = s.run(1, "check", "--against", "running")
	if !strings.Contains(errs, "name a configuration file to compare with") && !strings.Contains(errs, "refused") {
		t.Errorf("where none runs: %s", errs)
	}
}
