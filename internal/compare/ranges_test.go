package compare

import (
	"strings"
	"testing"

	"keyhook"
)

func TestWhatOfARangeIsNotWanted(t *testing.T) {
	rng := func(text string) keyhook.Range {
		start, end, _ := strings.Cut(text, "-")
		return keyhook.Range{Start: []byte(start), End: []byte(end)}
	}
	for name, tt := range map[string]struct{ old, want, lost string }{
		"all of it is":           {"b-d", "b-d", ""},
		"more than it":           {"b-d", "a-z", ""},
		"without an end":         {"b-d", "a-", ""},
		"nothing":                {"b-d", "", "b-d"},
		"others":                 {"b-d", "a-b d-e", "b-d"},
		"its beginning":          {"b-d", "a-c", "c-d"},
		"its end":                {"b-d", "c-d", "b-c"},
		"its middle":             {"a-z", "b-c x-y", "a-b c-x y-z"},
		"of one without an end":  {"b-", "a-c", "c-"},
		"all, in several pieces": {"b-", "a-c c-d d-", ""},
	} {
		var want []keyhook.Range
		for text := range strings.FieldsSeq(tt.want) {
			want = append(want, rng(text))
		}
		var lost []string
		for _, part := range Uncovered(rng(tt.old), want) {
			lost = append(lost, string(part.Start)+"-"+string(part.End))
		}
		if got := strings.Join(lost, " "); got != tt.lost {
			t.Errorf("%s: %q is lost, want %q", name, got, tt.lost)
		}
	}
}
