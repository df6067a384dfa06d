package rules

import (
	"slices"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// rule is one compiled rule.
type rule struct {
	name        string
	description string
	position    strictyaml.Position
	patterns    []*pattern
	captures    []string    // the names that the patterns bind, sorted
	when        *expression // nil: always
	vars        []*variable // a variable stands behind those it needs
	sends       []*send
	order       keyhook.Order
	onFailure   keyhook.OnFailure
	timing      keyhook.Timing
	per         *expression // nil: the key, or the revision
	grouped     bool
	gaps        bool
	was         []string
}

// send is one message that a rule sends.
type send struct {
	name, sink string
	body       *expression // nil: the default CloudEvent
	headers    []header
	subject    *expression // nil: none
}

// header is a header that a rule renders.
type header struct {
	name  string
	value *expression
}

func (r *rule) info() RuleInfo {
	info := RuleInfo{
		Name:        r.name,
		Description: r.description,
		Position:    r.position,
		Order:       r.order,
		OnFailure:   r.onFailure,
		Was:         slices.Clone(r.was),
		Timing:      r.timing,
		Grouped:     r.grouped,
		Gaps:        r.gaps,
	}
	if r.per != nil {
		info.Per = r.per.source.Value
	}
	for _, p := range r.patterns {
		info.Keys = append(info.Keys, p.source)
		info.Ranges = append(info.Ranges, p.keyRange())
	}
	if r.when != nil {
		info.When = r.when.source.Value
	}
	for _, s := range r.sends {
		info.Sends = append(info.Sends, SendInfo{Name: s.name, Sink: s.sink})
	}
	return info
}

// patternOf returns the first pattern that takes a key; nil if none does.
func (r *rule) patternOf(key []byte) *pattern {
	for _, p := range r.patterns {
		if _, ok := p.match(key, nil); ok {
			return p
		}
	}
	return nil
}

// sortedNames returns the names of the captures in a form that can be compared.
func (p *pattern) sortedNames() []string {
	names := p.names()
	slices.Sort(names)
	return names
}
