package rules

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestLint shows what a closer look at the files of testdata/lint finds.
func TestLint(t *testing.T) {
	datadriven.RunTest(t, "testdata/lint", func(t *testing.T, d *datadriven.TestData) string {
		input := d.Input
		switch d.Cmd {
		case "file":
		case "rules":
			input = "sinks:\n- {name: hook, webhook: {url: 'http://127.0.0.1/'}}\nrules:\n" + input
		default:
			t.Fatalf("unknown command %s", d.Cmd)
		}
		set, err := Load(files(input), Options{Lint: &LintOptions{Etcd: []string{"http://127.0.0.1:2379", "https://etcd.example.com:2379"}}})
		if err != nil {
			t.Fatalf("\n%s", err)
		}
		var b strings.Builder
		for _, w := range set.Warnings() {
			b.WriteString("[" + w.Code + "] " + w.Report() + "\n")
		}
		if b.Len() == 0 {
			return "nothing"
		}
		return b.String()
	})
}
