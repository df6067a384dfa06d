package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// questionable loads, and looks wrong.
const questionable = `sinks:
  - {name: pager, webhook: {url: "https://hooks.example.com/T0/s3cret"}}
rules:
  - name: never
    keys: /a/{path...}
    when: event.type == "put"
    send: {sink: pager}
`

// warning is one as it is printed for programs.
type warning struct {
	Line, Column        int
	Code, Hint, Snippet string
}

func TestCheckWarnsOfWhatLooksWrong(t *testing.T) {
	dir := write(t, map[string]string{"keyhook.yaml": goodConfig, "rules/one.yaml": questionable})
	path := filepath.Join(dir, "keyhook.yaml")
	code, stdout, stderr := keyhook("check", "-c", path)
	want := "warning: " + filepath.Join(dir, "rules", "one.yaml") + ":6:11: when: it never holds: it is false for every creation, update and deletion\n" +
		"    event.type is \"PUT\" or \"DELETE\"\n" +
		"    6 |     when: event.type == \"put\"\n" +
		"      |           ^^^^^\n"
	if code != 0 || stderr != want || !strings.Contains(stdout, "is fine") {
		t.Errorf("code %d:\n%s\nwant\n%s", code, stderr, want)
	}

	code, _, stderr = keyhook("check", "--strict", "-c", path)
	if code != 1 || !strings.HasPrefix(stderr, want) || !strings.Contains(stderr, "1 warning, and with --strict that is a failure") {
		t.Errorf("with --strict: code %d:\n%s", code, stderr)
	}

	code, stdout, stderr = keyhook("check", "--output", "json", "-c", path)
	var got struct{ Warnings []warning }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || stderr != "" {
		t.Fatalf("code %d, %v:\n%s%s", code, err, stdout, stderr)
	}
	if len(got.Warnings) != 1 || got.Warnings[0].Code != "never-matches" || got.Warnings[0].Line != 6 || got.Warnings[0].Column != 11 ||
		!strings.Contains(got.Warnings[0].Snippet, "^^^^^") {
		t.Errorf("%+v", got.Warnings)
	}
}

func TestCheckErrorsForPrograms(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":   goodConfig,
		"rules/one.yaml": strings.Replace(questionable, "event.type", "event.typ", 1),
	})
	code, stdout, stderr := keyhook("check", "--output", "json", "-c", filepath.Join(dir, "keyhook.yaml"))
	var got struct{ Errors []warning }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 2 {
		t.Fatalf("code %d, %v:\n%s%s", code, err, stdout, stderr)
	}
	if len(got.Errors) != 1 || got.Errors[0].Line != 6 || got.Errors[0].Hint != `did you mean "type"?` {
		t.Errorf("%+v", got.Errors)
	}
	if !strings.Contains(stderr, "one.yaml:6:17: ") || strings.Contains(stdout+stderr, "s3cret") {
		t.Errorf("stderr:\n%s", stderr)
	}
}
