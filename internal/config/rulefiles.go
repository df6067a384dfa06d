package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"keyhook/internal/strictyaml"
)

// RuleFile is a rule file as it was read.
type RuleFile struct {
	Path string
	Data []byte
}

// RuleFiles reads the files that the globs match now, each once, in the order
// of the globs and then of the names. A glob that matches nothing is a problem,
// and so is a file that cannot be read.
func (c *Config) RuleFiles() ([]RuleFile, strictyaml.Problems) {
	paths, problems := c.RulePaths()
	files := make([]RuleFile, 0, len(paths))
	for _, path := range paths {
		data, err := readAgain(path)
		if err != nil {
			problems = append(problems, beginning(path).Problemf("cannot read the rules: %s", reason(err)))
			continue
		}
		files = append(files, RuleFile{Path: path, Data: data})
	}
	return files, problems
}

// readAgain is as read, for files that are read whenever they change. What can be
// read once only, or never ends, such as a pipe, is an error.
func readAgain(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errors.New("is a directory")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	return read(path)
}

// RulePaths returns the paths of the files that the globs match now.
func (c *Config) RulePaths() ([]string, strictyaml.Problems) {
	var problems strictyaml.Problems
	var paths []string
	seen := map[string]bool{}
	for _, glob := range c.Rules {
		matches, err := filepath.Glob(glob.Pattern)
		if err != nil {
			problems = append(problems, glob.Position.Problemf("%q is not a glob: %s", glob.Pattern, err))
			continue
		}
		found := false
		for _, path := range matches {
			if hidden(path) && !hidden(glob.Pattern) || ofTests(path) && !ofTests(glob.Pattern) {
				continue
			}
			found = true
			if !seen[path] {
				seen[path] = true
				paths = append(paths, path)
			}
		}
		if !found {
			problems.Add(glob.Position, "paths are relative to the file that contains them", "no file matches %s", glob.Pattern)
		}
	}
	return paths, problems
}

// hidden reports whether a wildcard should pass over path, as in a shell:
// editors keep their own files under such names.
func hidden(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") }

// ofTests reports whether path, or a pattern, is of files that hold tests of
// rules: they stand beside the rules.
func ofTests(path string) bool {
	return strings.HasSuffix(path, "_test.yaml") || strings.HasSuffix(path, "_test.yml")
}
