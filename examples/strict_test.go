package examples_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/internal/cli"
)

// The examples are what people begin with: check finds nothing to warn of.
func TestTheExamplesPassAStrictCheck(t *testing.T) {
	for _, name := range []string{"SLACK_WEBHOOK_URL", "ALERTMANAGER_URL"} {
		t.Setenv(name, "https://hooks.example.com/"+strings.ToLower(name))
	}
	configs, err := filepath.Glob("*/keyhook.yaml")
	if err != nil || len(configs) < 7 {
		t.Fatalf("%v: only %q", err, configs)
	}
	for _, config := range configs {
		var out, errs bytes.Buffer
		code := cli.Run(cli.Process{
			Args: []string{"check", "--strict", "-c", config}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		})
		if code != 0 || errs.Len() > 0 {
			t.Errorf("%s: %d\n%s", config, code, errs.String())
		}
	}
}
