package ruletest

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"

	"keyhook/dispatcher"
	"keyhook/rules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// treated is how the dispatcher treats a sink, as far as these stories need it.
func treated(spec rules.SinkSpec) dispatcher.Sink {
	return dispatcher.Sink{Name: spec.Name, Concurrency: spec.Concurrency, Rate: spec.Rate, Retry: dispatcher.Retry{
		Initial: spec.Retry.Initial, Multiplier: spec.Retry.Multiplier, Max: spec.Retry.Max, Jitter: spec.Retry.Jitter,
		MaxAttempts: spec.Retry.MaxAttempts, MaxAge: spec.Retry.MaxAge,
	}}
}

// TestStories runs files of tests. "rules" sets a.yaml; "test" runs a_test.yaml
// and prints what came of it, with "coverage" that as well; "update" prints the
// lines of the file that its update has changed.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		var ruleFile string
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "rules" {
				ruleFile = d.Input
				return ""
			}
			r := newRunner(t, ruleFile, d.HasArg("coverage"))
			f, problems := r.Load("a_test.yaml", []byte(d.Input))
			if len(problems) > 0 {
				return problems.Error()
			}
			res := f.Run(nil)
			switch d.Cmd {
			case "test":
				report := &Report{Files: []FileResult{res}}
				if d.HasArg("coverage") {
					var err error
					if report.Coverage, err = r.Coverage(); err != nil {
						t.Fatal(err)
					}
				}
				var b strings.Builder
				if err := report.WriteText(&b, true); err != nil {
					t.Fatal(err)
				}
				return b.String()
			case "update":
				return updated(t, r, f, res)
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

func newRunner(t *testing.T, ruleFile string, coverage bool) *Runner {
	t.Helper()
	r, err := New(Options{Sink: treated, Coverage: coverage, ReadFile: func(path string) ([]byte, error) {
		if path != "a.yaml" {
			return nil, errors.New("no such file")
		}
		return []byte(ruleFile), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// updated returns the file after an update, whose tests must pass.
func updated(t *testing.T, r *Runner, f *File, res FileResult) string {
	t.Helper()
	after, n, err := f.Update(res)
	if err != nil {
		return err.Error()
	}
	again, problems := r.Load("a_test.yaml", after)
	if len(problems) > 0 {
		t.Fatalf("after an update of %d:\n%s\n%s", n, after, problems.Error())
	}
	if now := again.Run(nil); now.Failed() > 0 {
		t.Errorf("after an update of %d the tests fail:\n%s", n, after)
	}
	return string(after)
}
