package rules

import (
	"strings"
	"testing"
)

// TestHintsWithoutTime: where event.time cannot be used it is not offered either.
func TestHintsWithoutTime(t *testing.T) {
	const head = "sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n- name: r\n  keys: /a\n"
	for _, c := range []struct {
		rule    string
		offered bool
	}{
		{"  when: event.nonsense == 1\n  send: {sink: hook}", false},
		{"  when: event.tim == 1\n  send: {sink: hook}", false},
		{"  when: time == 1\n  send: {sink: hook}", false},
		{"  send: {sink: hook, subject: event.nonsense}", false},
		{"  send: {sink: hook, body: event.nonsense}", true},
		{"  send: {sink: hook, body: event.tim}", true},
		{"  send: {sink: hook, body: string(time)}", true},
	} {
		_, err := Load([]File{{Path: "a.yaml", Data: []byte(head + c.rule)}}, Options{routes: true})
		if err == nil {
			t.Fatalf("%s was loaded", c.rule)
		}
		_, hint, _ := strings.Cut(err.Error(), "\n")
		if hint == "" {
			t.Errorf("no hint in %s", err)
		}
		offered := strings.Contains(hint, `"time"`) || strings.Contains(hint, " time,") || strings.Contains(hint, "event.time")
		if offered != c.offered {
			t.Errorf("%s\ntime is offered: %t, want %t:\n%s", c.rule, offered, c.offered, err)
		}
	}
}

// TestAnExpressionThatIsTooLong is told so in plain words, at its beginning.
func TestAnExpressionThatIsTooLong(t *testing.T) {
	rule := "sinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\nrules:\n- name: r\n  keys: /a\n  send: {sink: hook}\n  when: |\n    " +
		strings.Repeat("true || ", maxExpressionSize/8) + "true\n"
	_, err := Load([]File{{Path: "a.yaml", Data: []byte(rule)}}, Options{routes: true})
	if want := "a.yaml:6:9: when: the expression is longer than 8192 characters\n    divide it"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
