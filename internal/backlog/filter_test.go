package backlog

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// given is a dead letter to select from.
func given(change func(*keyhook.DeadLetter)) *keyhook.DeadLetter {
	l := &keyhook.DeadLetter{
		Delivery: &keyhook.Delivery{
			ID: "7-a", Rule: "failover", Send: "page", Sink: "pager", Admitted: noon.Add(-time.Hour),
			Event: &keyhook.Event{Type: keyhook.Put, Key: []byte("/service/x"), Value: []byte("v"), Revision: 7},
			Retry: keyhook.Retry{Attempts: 3, Error: "HTTP 503 Service Unavailable"},
		},
		Reason: keyhook.ReasonMaxAttempts, Error: "HTTP 503 Service Unavailable", FailedAt: noon,
	}
	if change != nil {
		change(l)
	}
	return l
}

func TestAFilterMeansWhatMeetsEveryField(t *testing.T) {
	for name, tt := range map[string]struct {
		f    Filter
		want bool
	}{
		"nothing":                  {Filter{}, true},
		"a rule":                   {Filter{Rules: []string{"failover"}}, true},
		"one of several":           {Filter{Rules: []string{"other", "failover"}}, true},
		"another rule":             {Filter{Rules: []string{"other"}}, false},
		"a send":                   {Filter{Sends: []string{"page"}}, true},
		"another send":             {Filter{Sends: []string{"pager"}}, false},
		"a sink":                   {Filter{Sinks: []string{"pager"}}, true},
		"another sink":             {Filter{Sinks: []string{"page"}}, false},
		"a prefix":                 {Filter{KeyPrefix: "/service/"}, true},
		"the whole key":            {Filter{KeyPrefix: "/service/x"}, true},
		"another prefix":           {Filter{KeyPrefix: "/service/y"}, false},
		"a prefix of bytes":        {Filter{KeyPrefixBase64: []byte("/ser")}, true},
		"another prefix of bytes":  {Filter{KeyPrefixBase64: []byte{0xff}}, false},
		"a reason":                 {Filter{Reasons: []string{"max_attempts"}}, true},
		"another reason":           {Filter{Reasons: []string{"render", "limit"}}, false},
		"a part of the error":      {Filter{Error: "503"}, true},
		"another error":            {Filter{Error: "404"}, false},
		"since then":               {Filter{Since: noon}, true},
		"since later":              {Filter{Since: noon.Add(1)}, false},
		"until later":              {Filter{Until: noon.Add(1)}, true},
		"until then":               {Filter{Until: noon}, false},
		"its revision":             {Filter{MinRevision: 7, MaxRevision: 7}, true},
		"later revisions":          {Filter{MinRevision: 8}, false},
		"earlier revisions":        {Filter{MaxRevision: 6}, false},
		"two that are met":         {Filter{Sinks: []string{"pager"}, KeyPrefix: "/"}, true},
		"two, and one that is not": {Filter{Sinks: []string{"pager"}, KeyPrefix: "x"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.f.letter(given(nil)); got != tt.want {
				t.Errorf("got %v", got)
			}
			if tt.f.IsZero() != (name == "nothing") {
				t.Error("it is taken for nothing")
			}
			if err := tt.f.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is owed has no reason; its time is that of its admission, and its error
// that of the last attempt.
func TestAFilterOfWhatIsOwed(t *testing.T) {
	d := given(nil).Delivery
	for name, tt := range map[string]struct {
		f    Filter
		want bool
	}{
		"nothing":             {Filter{}, true},
		"a reason":            {Filter{Reasons: []string{"max_attempts"}}, false},
		"since its admission": {Filter{Since: noon.Add(-time.Hour)}, true},
		"since later":         {Filter{Since: noon}, false},
		"until later":         {Filter{Until: noon}, true},
		"the last error":      {Filter{Error: "503"}, true},
		"another rule":        {Filter{Rules: []string{"x"}}, false},
	} {
		if got := tt.f.owed(d); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSelectionsThatMakeNoSense(t *testing.T) {
	for name, tt := range map[string]struct {
		s    Selection
		want string
	}{
		"nothing":           {Selection{}, "nothing is selected"},
		"ids and a filter":  {Selection{IDs: []string{"7-a"}, Filter: Filter{Rules: []string{"r"}}}, "both ids and a filter"},
		"ids and all":       {Selection{IDs: []string{"7-a"}, All: true}, "both ids and all"},
		"no revisions":      {Selection{Filter: Filter{MinRevision: 3, MaxRevision: 2}}, "no revision lies between 3 and 2"},
		"a negative one":    {Selection{Filter: Filter{MinRevision: -1}}, "below 0"},
		"no time":           {Selection{Filter: Filter{Since: noon, Until: noon}}, "no time lies between"},
		"two prefixes":      {Selection{Filter: Filter{KeyPrefix: "a", KeyPrefixBase64: []byte("b")}}, "two key prefixes"},
		"ids":               {Selection{IDs: []string{"7-a"}}, ""},
		"all":               {Selection{All: true}, ""},
		"all that it means": {Selection{All: true, Filter: Filter{Rules: []string{"r"}}}, ""},
	} {
		err := tt.s.Check()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestAnIDSelects(t *testing.T) {
	s := Selection{IDs: []string{"7-b", "7-a"}}
	if !s.letter(given(nil)) || !s.owed(given(nil).Delivery) {
		t.Error("its own id does not select it")
	}
	s.IDs = s.IDs[:1]
	if s.letter(given(nil)) {
		t.Error("another id selects it")
	}
}

// A job goes over the network as it is.
func TestAJobSurvivesJSON(t *testing.T) {
	j := Job{
		Selection: Selection{Filter: Filter{Rules: []string{"a", "b"}, KeyPrefixBase64: []byte{0xff, 0}, Since: noon, MaxRevision: 9, Error: "x"}, All: true},
		Render:    true, Max: 5, Cursor: letterCursor{3, 1 << 60}.String(),
	}
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var got Job
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(text) || !slices.Equal(got.Rules, j.Rules) || !got.Since.Equal(noon) || got.Cursor != j.Cursor {
		t.Errorf("%v: %s became %+v", err, text, got)
	}
	if empty, err := json.Marshal(Job{}); err != nil || string(empty) != "{}" {
		t.Errorf("%v: nothing is %s", err, empty)
	}
}

func TestCursors(t *testing.T) {
	if c, err := parseLetterCursor(letterCursor{5, 1<<64 - 1}.String()); err != nil || c != (letterCursor{5, 1<<64 - 1}) {
		t.Errorf("%v: %+v", err, c)
	}
	at := owedCursor{Until: 12}
	at.From.Lane, at.From.Chain, at.From.Ordinal = 1<<32-1, 1<<64-1, 7
	if c, err := parseOwedCursor(at.String()); err != nil || c != at {
		t.Errorf("%v: %+v", err, c)
	}
	for _, s := range []string{"", "d", "x1.2", "d1", "d1.2x", "d1.2.3", " d1.2", "d-1.2", "d1.fffffffffffffffff", at.String()} {
		if c, err := parseLetterCursor(s); err == nil {
			t.Errorf("%q is %+v", s, c)
		}
	}
	if c, err := parseOwedCursor("o1.2.3"); err == nil {
		t.Errorf("got %+v", c)
	}
}
