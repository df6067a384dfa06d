package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"keyhook/internal/strictyaml"
)

// storyFile is what a story is called that lies beside a configuration.
const storyFile = "story.yaml"

// story is what is written into etcd, and what that is to come to.
type story struct {
	Title string `yaml:"title,required"`
	Steps []step `yaml:"steps,required"`
}

// step is one change: a put, a delete, or the end of a lease.
type step struct {
	Position strictyaml.Position `yaml:",position"`
	Why      string              `yaml:"why"`
	Put      string              `yaml:"put"`
	Value    string              `yaml:"value"`
	Lease    bool                `yaml:"lease"` // the key gets a lease of its own
	Delete   string              `yaml:"delete"`
	Expire   string              `yaml:"expire"` // the key whose lease runs out
	// Expect are the rules that have something to deliver, and no others; nil if
	// nothing is expected of them.
	Expect *[]string `yaml:"expect"`
	// Refuse makes the webhook inbox refuse the first attempt.
	Refuse bool `yaml:"refuse"`
}

// key returns the key that changes.
func (s *step) key() string {
	for _, key := range []string{s.Put, s.Delete} {
		if key != "" {
			return key
		}
	}
	return s.Expire
}

// findStory returns the path of the story for a configuration, "" if there is
// none beside it.
func findStory(config string) (string, error) {
	path := filepath.Join(filepath.Dir(config), storyFile)
	switch _, err := os.Stat(path); {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	default:
		return "", err
	}
}

// readStory reads the story in the file at path.
func readStory(path string) (*story, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the story: %w", err)
	}
	if info.Size() > strictyaml.MaxFile {
		return nil, fmt.Errorf("read the story: %s has more than %d bytes", path, strictyaml.MaxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the story: %w", err)
	}
	return parseStory(path, data)
}

// parseStory returns the story that data holds, or [strictyaml.Problems].
func parseStory(path string, data []byte) (*story, error) {
	var s story
	problems := strictyaml.Decode(path, data, &s)
	leased := make(map[string]bool)
	for i := range s.Steps {
		if p, ok := s.Steps[i].problem(leased); ok {
			problems = append(problems, p)
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	return &s, nil
}

// problem returns what is wrong with a step that follows others; leased are the
// keys with a lease, which it brings up to date.
func (s *step) problem(leased map[string]bool) (strictyaml.Problem, bool) {
	kinds := 0
	for _, key := range []string{s.Put, s.Delete, s.Expire} {
		if key != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return s.Position.Problemf("a step is one of put, delete and expire").WithHint("put: /a/key, with a value, delete: /a/key, or expire: /a/key"), true
	case s.Put == "" && (s.Value != "" || s.Lease):
		return s.Position.Problemf("value and lease belong to a put"), true
	case s.Expire != "" && !leased[s.Expire]:
		return s.Position.Problemf("the key %q has no lease that could run out", s.Expire).WithHint("put it with lease: true"), true
	}
	leased[s.key()] = s.Lease
	return strictyaml.Problem{}, false
}

// without returns a copy that expects nothing and fails nowhere, for rules that
// it was not written for.
func (s *story) without() *story {
	steps := slices.Clone(s.Steps)
	for i := range steps {
		steps[i].Expect, steps[i].Refuse = nil, false
	}
	return &story{Title: s.Title, Steps: steps}
}

// expectsNothing reports whether no step is to come to anything.
func (s *story) expectsNothing() bool {
	return !slices.ContainsFunc(s.Steps, func(st step) bool { return st.Expect == nil || len(*st.Expect) > 0 })
}
