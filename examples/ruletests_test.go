package examples_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/internal/cli"
)

// Every rule of the examples has tests, which pass and see each branch go both
// ways.
func TestTheRulesAreTested(t *testing.T) {
	var out, errs bytes.Buffer
	code := cli.Run(cli.Process{
		Args: []string{"test", "--coverage", "--output", "json", "."}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
	})
	if code != 0 {
		t.Fatalf("keyhook test ended with %d:\n%s%s", code, out.String(), errs.String())
	}
	var report struct {
		Files    []struct{ Path string }
		Coverage struct {
			Rules []struct {
				Name, At string
				Matched  int
			}
			Branches []struct {
				At, Rule, Text string
				True           bool `json:"seen_true"`
				False          bool `json:"seen_false"`
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Coverage.Rules {
		if r.Matched == 0 {
			t.Errorf("%s: no test matches the rule %s", r.At, r.Name)
		}
	}
	for _, b := range report.Coverage.Branches {
		if !b.True || !b.False {
			t.Errorf("%s: %s: seen true %t, false %t: %s", b.At, b.Rule, b.True, b.False, b.Text)
		}
	}
	// Rules are in files whose tests stand beside them, or that are sinks only.
	rules, err := filepath.Glob("*/rules/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for _, path := range rules {
		if !strings.HasSuffix(path, "_test.yaml") && filepath.Base(path) != "sinks.yaml" {
			tested++
		}
	}
	if tested != len(report.Files) {
		t.Errorf("%d files of rules have %d files of tests", tested, len(report.Files))
	}
}
