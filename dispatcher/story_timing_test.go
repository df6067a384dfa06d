package dispatcher

import (
	"strings"
	"testing"

	"keyhook"
)

// rules tells the machine what the rules of today are.
func (st *story) rules(t *testing.T, input string) {
	t.Helper()
	r := &Rules{RenamedRules: map[string]string{}, RenamedSinks: map[string]string{}}
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		if len(f) == 4 && f[2] == "is" {
			names := map[string]map[string]string{"rule": r.RenamedRules, "sink": r.RenamedSinks}[f[0]]
			names[f[1]] = f[3]
			continue
		}
		s := Send{Rule: f[0], Send: f[1], Sink: f[1]}
		for _, a := range f[2:] {
			name, value, _ := strings.Cut(a, "=")
			switch name {
			case "for":
				s.Timing.For = duration(t, value)
			case "every":
				s.Timing.Every = duration(t, value)
			case "keys":
				s.Keys = append(s.Keys, keyhook.Prefix([]byte(value)))
			default:
				t.Fatalf("no such word: %s", a)
			}
		}
		r.Sends = append(r.Sends, s)
	}
	st.cfg.Rules = r
	st.m.setRules(st.now, r)
}
