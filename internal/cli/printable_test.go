package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestNothingThatATerminalObeysIsPrinted(t *testing.T) {
	for s, want := range map[string]string{
		"/service/batman/leader": "/service/batman/leader",
		"not ASCII: ü ☃ 🙂":       "not ASCII: ü ☃ 🙂",
		"\x1b[31mred\x1b[0m":     `\x1b[31mred\x1b[0m`,
		"a\nb\tc\rd\x00\x7f":     `a\nb\tc\rd\x00\x7f`,
		"C1: \u009b31m":          `C1: \u009b31m`,
		"turned \u202e around":   `turned \u202e around`,
		"no UTF-8: \xff\xfe":     `no UTF-8: \xff\xfe`,
		"\ufffd stands as it is": "\ufffd stands as it is",
		"no break\u00a0space":    `no break\u00a0space`,
	} {
		got := printable(s)
		if got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
		for _, r := range got {
			if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) {
				t.Errorf("%q has %U", got, r)
			}
		}
	}
}

func TestJSONForPeopleToLookAt(t *testing.T) {
	const s = "\x1b \u009b \x7f \u202e \U000e0001 \u2028 <&> ü 🙂 \n"
	text, err := appendJSON(nil, map[string]string{"a": s, "b": "x"}, "  ")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil || got["a"] != s {
		t.Errorf("%v: %q", err, got["a"])
	}
	for _, r := range string(text) {
		if r != '\n' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)) {
			t.Errorf("%q has %U", text, r)
		}
	}
	if !strings.Contains(string(text), "<&> ü 🙂") {
		t.Errorf("%s", text)
	}
}

func TestShortened(t *testing.T) {
	for s, want := range map[string]string{"": "", "abc": "abc", "abcd": "abcd", "abcde": "abc…", "üüüü": "üüüü", "üüüüü": "üüü…"} {
		if got := shortened(s, 4); got != want {
			t.Errorf("%q became %q", s, got)
		}
	}
}

func TestPlural(t *testing.T) {
	for want, n := range map[string]int{"0 owed deliveries": 0, "1 owed delivery": 1, "1,200 owed deliveries": 1200} {
		if got := plural(n, "owed delivery"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"":                            {},
		"2h":                          now.Add(-2 * time.Hour),
		"1d12h":                       now.Add(-36 * time.Hour),
		"0s":                          now,
		"2026-02-28T12:00:00Z":        now.Add(-24 * time.Hour),
		"2026-02-28T14:00:00.5+02:00": now.Add(-24 * time.Hour).Add(500 * time.Millisecond),
	} {
		if got, err := moment("since", s, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"2", "yesterday", "-2h", "2026-02-28", "12:00"} {
		if got, err := moment("since", s, now); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}
