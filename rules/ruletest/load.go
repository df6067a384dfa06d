package ruletest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"keyhook"
	"keyhook/dispatcher"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// Options are what a Runner needs.
type Options struct {
	// Sink returns how the dispatcher treats a sink; its deliverer is not used.
	Sink func(rules.SinkSpec) dispatcher.Sink
	// Story returns what tells a sink of a dead letter; nil: nothing does.
	Story func(source string, dl *keyhook.DeadLetter, number uint64, sink string) (*keyhook.Delivery, error)
	// Config reads a configuration, for tests that name one; nil: none can.
	Config func(path string) (Setup, strictyaml.Problems)
	// Default is the configuration of tests that name neither rules nor a
	// configuration and have no rules beside them; "" means none.
	Default string
	// Coverage asks for what the tests have seen of the rules.
	Coverage bool
	// ReadFile reads a file of rules; default [os.ReadFile].
	ReadFile func(path string) ([]byte, error)
}

// Setup is what a configuration says of rules.
type Setup struct {
	Files  []rules.File
	Watch  []keyhook.Range // empty: as the rules need
	Source string          // "": [DefaultSource]
}

// DefaultSource names the history of tests that name none.
const DefaultSource = "/etcd/test"

// Runner loads and runs files of tests. It keeps the rules that several of them
// are about. It is for one goroutine.
type Runner struct {
	opts Options
	sets map[string]*ruleSet
	// order has the keys of sets as they came.
	order []string
}

// New returns a Runner.
func New(opts Options) (*Runner, error) {
	if opts.Sink == nil {
		return nil, errors.New("ruletest: nothing says how sinks are treated")
	}
	if opts.ReadFile == nil {
		opts.ReadFile = os.ReadFile
	}
	return &Runner{opts: opts, sets: make(map[string]*ruleSet)}, nil
}

// ruleSet is a set of rules under test.
type ruleSet struct {
	set      *rules.Set
	watch    []keyhook.Range
	source   string
	tracer   *rules.Tracer // nil without coverage
	matched  map[string]int
	rules    map[string]bool
	sinks    map[string]rules.SinkSpec
	problems strictyaml.Problems // why there is none
}

// File is a file of tests that is ready to run.
type File struct {
	Path string

	opts Options
	spec fileSpec
	data []byte
	rs   *ruleSet
}

// Load reads a file of tests, and the rules that it is about. path names it in
// problems; relative paths in it are relative to its directory. With problems
// there is nothing to run.
func (r *Runner) Load(path string, data []byte) (*File, strictyaml.Problems) {
	f := &File{Path: path, opts: r.opts, data: data}
	problems := placeholders.Decode(path, data, &f.spec)
	if f.spec.Position.Line == 0 {
		return nil, problems
	}
	rs, more := r.ruleSet(f)
	problems = append(problems, more...)
	if rs != nil {
		f.rs = rs
		problems = append(problems, f.check()...)
	}
	if len(problems) > 0 {
		problems.Sort()
		return nil, problems
	}
	return f, nil
}

// Placeholders returns an environment in which every secret is there, and none
// is real. Rules never see secrets, so any will do.
func Placeholders() strictyaml.Environment { return placeholders }

var placeholders = strictyaml.Environment{
	LookupEnv: func(string) (string, bool) { return "placeholder", true },
	ReadFile:  func(string) ([]byte, error) { return []byte("placeholder"), nil },
}

// ruleSet returns the rules that f is about.
func (r *Runner) ruleSet(f *File) (*ruleSet, strictyaml.Problems) {
	setup, problems := r.setup(f)
	if len(problems) > 0 {
		return nil, problems
	}
	if f.spec.Source != "" {
		setup.Source = f.spec.Source
	}
	if setup.Source == "" {
		setup.Source = DefaultSource
	}
	paths := make([]string, len(setup.Files))
	for i, file := range setup.Files {
		paths[i] = file.Path
	}
	key := fmt.Sprintf("%q %v %q", setup.Source, setup.Watch, paths)
	if rs := r.sets[key]; rs != nil {
		return rs.usable()
	}
	rs := r.compile(setup)
	r.sets[key] = rs
	r.order = append(r.order, key)
	return rs.usable()
}

// usable returns rs, or what is wrong with it.
func (rs *ruleSet) usable() (*ruleSet, strictyaml.Problems) {
	if rs.set == nil {
		return nil, slices.Clone(rs.problems)
	}
	return rs, nil
}

func (r *Runner) compile(setup Setup) *ruleSet {
	rs := &ruleSet{watch: setup.Watch, source: setup.Source, matched: make(map[string]int)}
	nothing := func(rules.WebhookSpec) []rules.FieldProblem { return nil } // secrets are not the real ones
	set, err := rules.Load(setup.Files, rules.Options{Watch: setup.Watch, Environment: placeholders, CheckWebhook: nothing})
	if err != nil {
		if !errors.As(err, &rs.problems) {
			rs.problems = strictyaml.Problems{{Path: setup.Files[0].Path, Message: err.Error()}}
		}
		return rs
	}
	if r.opts.Coverage {
		if rs.tracer, err = set.Tracer(rules.Source{Name: setup.Source}); err != nil {
			rs.problems = strictyaml.Problems{{Path: setup.Files[0].Path, Message: err.Error()}}
			return rs
		}
	}
	rs.rules, rs.sinks = make(map[string]bool), make(map[string]rules.SinkSpec)
	for _, rule := range set.Rules() {
		rs.rules[rule.Name] = true
	}
	for _, spec := range set.Sinks() {
		rs.sinks[spec.Name] = spec
	}
	rs.set = set
	return rs
}

// setup finds the rules of f.
func (r *Runner) setup(f *File) (Setup, strictyaml.Problems) {
	s := &f.spec
	switch {
	case s.Config != nil && len(s.Rules) > 0:
		return Setup{}, strictyaml.Problems{s.Config.Position.Problemf("a file of tests has either rules or config")}
	case s.Config != nil:
		if r.opts.Config == nil {
			return Setup{}, strictyaml.Problems{s.Config.Position.Problemf("no configuration can be read here")}
		}
		setup, problems := r.opts.Config(beside(f.Path, s.Config.Value))
		return setup, problems
	case len(s.Rules) > 0:
		return r.named(f)
	}
	path := subject(f.Path)
	data, err := r.opts.ReadFile(path)
	if err == nil {
		return Setup{Files: []rules.File{{Path: path, Data: data}}}, nil
	}
	if r.opts.Default != "" && r.opts.Config != nil {
		return r.opts.Config(r.opts.Default)
	}
	return Setup{}, strictyaml.Problems{s.Position.Problemf("it is not known which rules this tests: there is no %s", path).
		WithHint("name them, as in rules: [patroni.yaml], or name a configuration with -c FILE")}
}

// named reads the rule files that f names.
func (r *Runner) named(f *File) (Setup, strictyaml.Problems) {
	var setup Setup
	var problems strictyaml.Problems
	for _, name := range f.spec.Rules {
		paths, err := filepath.Glob(beside(f.Path, name.Value))
		if err != nil {
			problems = append(problems, name.Position.Problemf("%q is not a glob: %s", name.Value, err))
			continue
		}
		paths = slices.DeleteFunc(paths, IsTest)
		if len(paths) == 0 {
			paths = []string{beside(f.Path, name.Value)} // whose error says what is the matter
		}
		for _, path := range paths {
			data, err := r.opts.ReadFile(path)
			if err != nil {
				problems.Add(name.Position, "paths are relative to the file that contains them", "cannot read the rules: %s", err)
				continue
			}
			setup.Files = append(setup.Files, rules.File{Path: path, Data: data})
		}
	}
	return setup, problems
}

// Suffixes of files of tests.
var suffixes = []string{"_test.yaml", "_test.yml"}

// IsTest reports whether a file is one of tests, by its name.
func IsTest(path string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(path, s) })
}

// subject returns the rule file that a file of tests stands beside.
func subject(path string) string {
	for _, s := range suffixes {
		if head, ok := strings.CutSuffix(path, s); ok {
			return head + strings.TrimPrefix(s, "_test")
		}
	}
	return path + ": rules"
}

// beside returns the path that a relative one in the file at path means.
func beside(path, relative string) string {
	if filepath.IsAbs(relative) {
		return relative
	}
	return filepath.Join(filepath.Dir(path), relative)
}
