package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"keyhook"
	"keyhook/internal/app"
	"keyhook/internal/config"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/rules/ruletest"
)

// testOptions are the flags of keyhook test.
type testOptions struct {
	config   string
	format   output
	junit    string
	run      string
	coverage bool
	update   bool
	verbose  bool
}

func testCommand() *cobra.Command {
	var o testOptions
	cmd := &cobra.Command{
		Use:   "test [FILE or DIRECTORY]...",
		Short: "Run tests of rules, without connecting to anything",
		Long: `Runs the tests in files named *_test.yaml: those given, or all below the
directories given, or below the working directory. Each says what etcd holds,
what changes, how the sinks answer, and what must arrive and must not. The real
rules, lanes and retries run on a clock of their own, so that days pass at once.

rules/patroni_test.yaml is about rules/patroni.yaml, unless it says otherwise
with rules or config. Secrets are not looked up.

The exit code is 1 if a test fails, and 2 if a file is wrong.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("config") && !exists(o.config) {
				o.config = ""
			}
			return o.test(cmd, args)
		},
	}
	configFlag(cmd, &o.config, defaultConfig, "the configuration of tests that name no rules and have none beside them")
	outputFlag(cmd, &o.format)
	cmd.Flags().StringVar(&o.junit, "junit", "", "also write the result to this file, as JUnit's XML")
	cmd.Flags().StringVar(&o.run, "run", "", "only tests whose names match this regular expression")
	cmd.Flags().BoolVar(&o.coverage, "coverage", false, "say which rules never matched, and which branches of &&, || and ?: were never gone")
	cmd.Flags().BoolVar(&o.update, "update", false, "write the bodies that arrived into the files, in place of those that were expected")
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "name the tests that pass as well")
	return cmd
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// testsFailed is how many tests have failed.
type testsFailed struct{ failed, of int }

func (e *testsFailed) Error() string {
	return fmt.Sprintf("%d of %s failed", e.failed, counted(e.of, "test"))
}

func (o *testOptions) test(cmd *cobra.Command, args []string) error {
	pattern, err := regexp.Compile(o.run)
	if err != nil {
		return &usageError{message: fmt.Sprintf("--run: %s", err)}
	}
	paths, err := testFiles(args)
	if err != nil {
		return err
	}
	runner, err := ruletest.New(ruletest.Options{
		Sink: app.DispatcherSink, Story: app.DeadLetterStory, Config: testSetup, Default: o.config, Coverage: o.coverage,
	})
	if err != nil {
		return err
	}
	files, err := loadTests(runner, paths)
	if err != nil {
		return err
	}
	report := &ruletest.Report{}
	for _, f := range files {
		res := f.Run(pattern)
		if o.update {
			if res, err = updateTests(cmd, runner, f, res, pattern); err != nil {
				return err
			}
		}
		report.Files = append(report.Files, res)
	}
	if o.coverage {
		if report.Coverage, err = runner.Coverage(); err != nil {
			return err
		}
	}
	return o.report(cmd, report)
}

// testFiles finds the files of tests that args name.
func testFiles(args []string) ([]string, error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	var paths []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("cannot read the tests: %s", err)}
		}
		if !info.IsDir() {
			paths = append(paths, arg)
			continue
		}
		found := false
		err = filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != arg && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
			case !d.IsDir() && ruletest.IsTest(path):
				found = true
				paths = append(paths, path)
			}
			return nil
		})
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("cannot read the tests: %s", err)}
		}
		if !found {
			return nil, &usageError{
				message: fmt.Sprintf("there are no tests in %s", arg),
				hint:    "a file of tests has a name such as patroni_test.yaml",
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

// loadTests reads all files, and returns everything that is wrong with any.
func loadTests(runner *ruletest.Runner, paths []string) ([]*ruletest.File, error) {
	var files []*ruletest.File
	var problems strictyaml.Problems
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("cannot read the tests: %s", err)}
		}
		f, ps := runner.Load(path, data)
		for _, p := range ps {
			if !slices.Contains(problems, p) { // of rules that several files test
				problems = append(problems, p)
			}
		}
		if f != nil {
			files = append(files, f)
		}
	}
	return files, problems.Err()
}

// updateTests writes what arrived into a file, and runs it again.
func updateTests(cmd *cobra.Command, runner *ruletest.Runner, f *ruletest.File, res ruletest.FileResult, pattern *regexp.Regexp) (ruletest.FileResult, error) {
	data, n, err := f.Update(res)
	if err != nil {
		return res, err
	}
	if n == 0 {
		return res, nil
	}
	again, problems := runner.Load(f.Path, data)
	if err := problems.Err(); err != nil {
		return res, fmt.Errorf("%s cannot be updated: the result would be wrong: %w", f.Path, err)
	}
	info, err := os.Stat(f.Path)
	if err != nil {
		return res, err
	}
	if err := os.WriteFile(f.Path, data, info.Mode().Perm()); err != nil {
		return res, err
	}
	body := "bodies"
	if n == 1 {
		body = "body"
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: updated %d %s\n", f.Path, n, body); err != nil {
		return res, err
	}
	return again.Run(pattern), nil
}

func (o *testOptions) report(cmd *cobra.Command, report *ruletest.Report) error {
	total, failed := report.Count()
	if total == 0 {
		return &usageError{message: fmt.Sprintf("no test matches --run %q", o.run)}
	}
	if o.junit != "" {
		if err := writeJUnit(o.junit, report); err != nil {
			return fmt.Errorf("write the result for JUnit: %w", err)
		}
	}
	var err error
	if o.format == forPrograms {
		err = printJSON(cmd.OutOrStdout(), report.JSON())
	} else {
		err = report.WriteText(cmd.OutOrStdout(), o.verbose)
	}
	if err != nil {
		return err
	}
	if failed > 0 {
		return &testsFailed{failed, total}
	}
	return nil
}

func writeJUnit(path string, report *ruletest.Report) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // a report that other programs read
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	return report.WriteJUnit(f)
}

// testSetup reads what a configuration says of rules. Its secrets are not looked
// up.
func testSetup(path string) (ruletest.Setup, strictyaml.Problems) {
	cfg, problems := config.LoadWith(path, ruletest.Placeholders())
	if cfg == nil || len(problems) > 0 {
		return ruletest.Setup{}, problems
	}
	files, problems := cfg.RuleFiles()
	setup := ruletest.Setup{Source: cfg.Source}
	for _, f := range files {
		setup.Files = append(setup.Files, rules.File{Path: f.Path, Data: f.Data})
	}
	for _, prefix := range cfg.Etcd.Watch {
		setup.Watch = append(setup.Watch, keyhook.Prefix([]byte(prefix)))
	}
	return setup, problems
}
