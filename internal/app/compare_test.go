package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a reload has changed is one line of the log, and on the status page.
func TestAReloadSaysWhatItHasChanged(t *testing.T) {
	s := newSite(t)
	s.write("rules/a.yaml", s.rule("a", "/a/", "saw"))
	s.write("rules/b.yaml", s.rule("b", "/b/", "saw"))
	p := s.up()
	if p.status().Rules.Changes != nil {
		t.Error("the start counts as a reload")
	}
	s.write("rules/a.yaml", s.rule("a", "/a/", "heard"))
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.dir, "rules", "b.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	changes := p.status().Rules.Changes
	if changes == nil || len(changes.Rules.Removed) != 1 || changes.Rules.Removed[0].Name != "b" || len(changes.Rules.Changed) != 0 ||
		len(changes.Ranges.GivenUp) != 1 || changes.Ranges.GivenUp[0] != "/b/" {
		t.Errorf("the status page says %+v", changes)
	}
	renamed := strings.Replace(s.rule("c", "/a/", "heard"), "keys:", "was: a\n    keys:", 1)
	s.write("rules/a.yaml", renamed)
	if err := p.awaitReload(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`rules_changed="[a (send a-sink: body)]"`,
		"rules_removed=[b] sinks_removed=[b-sink] ranges_given_up=[/b/]",
		`rules_renamed="[a -> c]"`,
	} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
	if t.Failed() {
		t.Log(s.logs.String())
	}
}
