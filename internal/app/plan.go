package app

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"slices"

	"keyhook"
	"keyhook/internal/config"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/watch"
)

// maxRanges bounds the ranges that are derived from rules: each is a watch of
// its own for etcd to serve.
const maxRanges = 16

// Plan is a configuration with its rules: all that a run needs to begin.
type Plan struct {
	Config *config.Config
	Rules  *rules.Set
	Ranges []keyhook.Range // to be watched: disjoint, in key order

	// Warnings are about what works and is probably not meant.
	Warnings strictyaml.Problems

	files        listing // of the rules
	digest       string  // of the rule files
	configDigest string  // of the configuration
}

// Load reads the configuration at path and the rules that it names. It touches
// nothing but files. An error is of type [strictyaml.Problems] and holds
// everything that is wrong with any of them.
func Load(path string) (*Plan, error) { return load(path, false) }

// Check does what Load does, and takes a closer look at what the rules mean: what
// it finds is among the warnings, with a code.
func Check(path string) (*Plan, error) { return load(path, true) }

func load(path string, closer bool) (*Plan, error) {
	cfg, problems := config.Load(path)
	if cfg == nil {
		return nil, problems
	}
	files := readRules(cfg)
	var lint *rules.LintOptions
	if closer {
		lint = &rules.LintOptions{Etcd: cfg.Etcd.Endpoints}
	}
	set, more := files.compile(cfg, nil, lint)
	if err := append(problems, more...).Err(); err != nil {
		return nil, err
	}
	p := &Plan{Config: cfg, Rules: set, Ranges: rangesOf(cfg, set), files: files.listing(), digest: files.digest(), configDigest: digestOf(path)}
	p.Warnings = append(p.Warnings, cfg.Warnings...)
	p.Warnings = append(p.Warnings, set.Warnings()...)
	return p, nil
}

// ruleFiles are the rule files as they were at one moment.
type ruleFiles struct {
	files    []rules.File
	problems strictyaml.Problems // of finding and reading them
}

func readRules(cfg *config.Config) ruleFiles {
	found, problems := cfg.RuleFiles()
	f := ruleFiles{problems: problems}
	for _, file := range found {
		f.files = append(f.files, rules.File{Path: file.Path, Data: file.Data})
	}
	return f
}

// sizes lists the files that the configuration names now.
func sizes(cfg *config.Config) listing {
	paths, _ := cfg.RulePaths() // what is wrong with a glob is a problem of the next load
	all := listing{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			all[path] = info.Size()
		}
	}
	return all
}

// listing lists the files as they were read.
func (f ruleFiles) listing() listing {
	all := listing{}
	for _, file := range f.files {
		all[file.Path] = int64(len(file.Data))
	}
	return all
}

// lacks reports whether something of a listing was gone when the files were
// read, and was not a problem of theirs.
func (f ruleFiles) lacks(seen listing) bool {
	read := f.listing()
	for path, size := range seen {
		known := slices.ContainsFunc(f.problems, func(p strictyaml.Problem) bool { return p.Path == path })
		if n, ok := read[path]; !known && (!ok || n < min(size, strictyaml.MaxFile)) {
			return true
		}
	}
	return false
}

// digest is equal for files that are equal.
func (f ruleFiles) digest() string {
	h := sha256.New()
	part := func(data []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(data))))
		h.Write(data)
	}
	for _, file := range f.files {
		part([]byte(file.Path))
		part(file.Data)
	}
	part([]byte(f.problems.Error()))
	return hex.EncodeToString(h.Sum(nil))
}

// digestOf changes with the content of the file at path.
func digestOf(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unreadable"
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// compile returns the set that the files make, or everything that is wrong. Of
// the previous set, if there is one, it takes what has not changed.
func (f ruleFiles) compile(cfg *config.Config, previous *rules.Set, lint *rules.LintOptions) (*rules.Set, strictyaml.Problems) {
	problems := slices.Clone(f.problems)
	if len(f.files) == 0 {
		return nil, problems
	}
	set, err := rules.Load(f.files, rules.Options{
		Watch: prefixes(cfg.Etcd.Watch), CheckWebhook: checkWebhook, CheckNATS: checkNATS, Previous: previous, Lint: lint,
	})
	if err != nil {
		var more strictyaml.Problems
		if !errors.As(err, &more) {
			more = strictyaml.Problems{strictyaml.Position{Path: cfg.Path}.Problemf("load the rules: %s", err)}
		}
		return nil, append(problems, more...)
	}
	if len(set.Rules()) == 0 {
		problems = append(problems, cfg.Rules[0].Position.Problemf("the files hold no rule"))
	}
	return set, problems
}

// rangesOf returns what is to be watched: what the configuration says, or else
// what the rules need.
func rangesOf(cfg *config.Config, set *rules.Set) []keyhook.Range {
	if cfg.Etcd.Watch != nil {
		return watch.Normalize(prefixes(cfg.Etcd.Watch), 0)
	}
	return watch.Normalize(set.Ranges(), maxRanges)
}

func prefixes(texts []string) []keyhook.Range {
	var ranges []keyhook.Range
	for _, text := range texts {
		ranges = append(ranges, keyhook.Prefix([]byte(text)))
	}
	return ranges
}
