package ruletest

import (
	"cmp"
	"slices"
	"strings"

	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// Coverage is what tests have seen of the rules that they are about.
type Coverage struct {
	Rules    []RuleCoverage
	Branches []rules.Branch // of all rules, in the order of their places
}

// RuleCoverage is one rule.
type RuleCoverage struct {
	Name     string
	Position strictyaml.Position
	Matched  int // how many changes it matched
}

// Count returns how many of the rules have matched, and how many of both ways of
// each branch have been gone.
func (c *Coverage) Count() (matched, rules, gone, ways int) {
	for _, r := range c.Rules {
		if r.Matched > 0 {
			matched++
		}
	}
	for _, b := range c.Branches {
		for _, seen := range []bool{b.True, b.False} {
			if seen {
				gone++
			}
		}
	}
	return matched, len(c.Rules), gone, 2 * len(c.Branches)
}

// Coverage returns what the tests so far have seen, of each rule once.
func (r *Runner) Coverage() (*Coverage, error) {
	type place struct {
		at         strictyaml.Position
		what, text string
	}
	byRule := map[strictyaml.Position]*RuleCoverage{}
	byPlace := map[place]*rules.Branch{}
	for _, key := range r.order {
		rs := r.sets[key]
		if rs.tracer == nil {
			continue
		}
		for _, info := range rs.set.Rules() {
			if byRule[info.Position] == nil {
				byRule[info.Position] = &RuleCoverage{Name: info.Name, Position: info.Position}
			}
			byRule[info.Position].Matched += rs.matched[info.Name]
		}
		all, err := rs.tracer.Branches()
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			p := place{b.Position, b.What, b.Text}
			if known := byPlace[p]; known != nil {
				known.True, known.False = known.True || b.True, known.False || b.False
				continue
			}
			byPlace[p] = &b
		}
	}
	c := &Coverage{}
	for _, one := range byRule {
		c.Rules = append(c.Rules, *one)
	}
	for _, one := range byPlace {
		c.Branches = append(c.Branches, *one)
	}
	slices.SortFunc(c.Rules, func(a, b RuleCoverage) int { return a.Position.Compare(b.Position) })
	slices.SortFunc(c.Branches, func(a, b rules.Branch) int {
		return cmp.Or(a.Position.Compare(b.Position), strings.Compare(a.What, b.What), cmp.Compare(len(b.Text), len(a.Text)), strings.Compare(a.Text, b.Text))
	})
	return c, nil
}
