package rules

import (
	"slices"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// Set is a compiled set of rules and the sinks they send to. It is immutable.
type Set struct {
	rules    []*rule
	sinks    []SinkSpec
	ranges   []keyhook.Range
	warnings strictyaml.Problems
	index    *index
	together *index // of the rules that take the changes of a revision as one; nil if there are none
	states   *statePool
	budget   uint64 // of the measured expressions of a rule on one event
	// compiled are its expressions, for the set that will replace it.
	compiled map[string]compiled
	planner  *planner
}

// Ranges returns the ranges of keys that the rules ask for, as their patterns
// are written: neither sorted nor disjoint.
func (s *Set) Ranges() []keyhook.Range { return slices.Clone(s.ranges) }

// Sinks returns all sinks in the order of their names.
func (s *Set) Sinks() []SinkSpec { return slices.Clone(s.sinks) }

// Warnings returns what looks wrong but is not an error.
func (s *Set) Warnings() []strictyaml.Problem { return slices.Clone(s.warnings) }

// LooksAt reports whether the keys of a rule take key.
func (s *Set) LooksAt(rule string, key []byte) bool {
	r := s.ruleNamed(rule)
	return r != nil && r.patternOf(key) != nil
}

// ruleNamed returns the rule of a name; nil if there is none.
func (s *Set) ruleNamed(name string) *rule {
	for _, r := range s.rules {
		if r.name == name {
			return r
		}
	}
	return nil
}

// Rules returns all rules in the order in which they are evaluated: that of the
// files as given to [Load], and within a file from top to bottom.
func (s *Set) Rules() []RuleInfo {
	infos := make([]RuleInfo, len(s.rules))
	for i, r := range s.rules {
		infos[i] = r.info()
	}
	return infos
}
