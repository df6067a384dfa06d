package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// files cuts a test's input at lines such as "== b.yaml" into files; what comes
// before the first is a.yaml.
func files(input string) []File {
	all := []File{{Path: "a.yaml"}}
	for line := range strings.Lines(input) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "== "); ok {
			all = append(all, File{Path: name})
			continue
		}
		f := &all[len(all)-1]
		f.Data = append(f.Data, line...)
	}
	if len(all) > 1 && len(all[0].Data) == 0 {
		return all[1:]
	}
	return all
}

// testEnvironment knows one secret.
var testEnvironment = strictyaml.Environment{
	LookupEnv: func(name string) (string, bool) { return "whsec_" + strings.Repeat("c2Vj", 10), name == "SECRET" },
	ReadFile:  func(path string) ([]byte, error) { return nil, fmt.Errorf("no file %s here", path) },
}

// TestLoad loads the files of testdata/load and shows what is wrong with them,
// or what they hold. "rule" wraps the input, the body of one rule, into a file
// with a sink; its places are those of the input.
func TestLoad(t *testing.T) {
	datadriven.RunTest(t, "testdata/load", func(t *testing.T, d *datadriven.TestData) string {
		opts := Options{Environment: testEnvironment}
		for _, arg := range d.CmdArgs {
			if arg.Key == "watch" {
				for _, prefix := range arg.Vals {
					opts.Watch = append(opts.Watch, keyhook.Prefix([]byte(prefix)))
				}
			}
		}
		input := d.Input
		switch d.Cmd {
		case "load":
		case "rule":
			input += "\n== sinks.yaml\nsinks: [{name: hook, webhook: {url: 'http://127.0.0.1/'}}]\n"
			input = "rules:\n- " + strings.ReplaceAll(input, "\n", "\n  ")
			input = strings.ReplaceAll(input, "\n  == ", "\n== ")
			input = strings.ReplaceAll(input, "\n  sinks:", "\nsinks:")
		default:
			t.Fatalf("unknown command %s", d.Cmd)
		}
		set, err := Load(files(input), opts)
		if err != nil {
			return err.Error()
		}
		return describe(set)
	})
}

func describe(set *Set) string {
	var b strings.Builder
	for _, s := range set.Sinks() {
		fmt.Fprintf(&b, "sink %s at %s: %d at once, %g/s, %+v\n", s.Name, s.Position, s.Concurrency, s.Rate, s.Retry)
		if w := s.Webhook; w != nil {
			fmt.Fprintf(&b, "  webhook %s, timeout %s, headers %v, %d secrets, retry on %v, dead on %v\n",
				w.URL, w.Timeout, w.Headers, len(w.Sign), w.RetryOn, w.DeadOn)
		}
		if n := s.NATS; n != nil {
			plain := *n
			plain.TLS = nil // a pointer
			fmt.Fprintf(&b, "  nats %+v\n", plain)
			if n.TLS != nil {
				fmt.Fprintf(&b, "  tls %+v\n", *n.TLS)
			}
		}
	}
	for _, r := range set.Rules() {
		fmt.Fprintf(&b, "rule %s at %s: keys %q, order %d, on failure %d, sends %v\n", r.Name, r.Position, r.Keys, r.Order, r.OnFailure, r.Sends)
	}
	for _, r := range set.Ranges() {
		fmt.Fprintf(&b, "range %s\n", r)
	}
	for _, w := range set.Warnings() {
		fmt.Fprintf(&b, "warning: %s\n", w.Error())
	}
	return b.String()
}
