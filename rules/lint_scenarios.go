package rules

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"keyhook"
)

// scenario is a kind of change, of which a condition may know enough.
type scenario struct {
	event   *keyhook.Event
	unknown []*cel.AttributePatternType
}

// unknownFields returns patterns for fields of event or, below it, of what the
// path in of leads to.
func unknownFields(of []string, names ...string) []*cel.AttributePatternType {
	var all []*cel.AttributePatternType
	for _, name := range names {
		p := cel.AttributePattern(nameEvent)
		for _, field := range of {
			p = p.QualString(field)
		}
		all = append(all, p.QualString(name))
	}
	return all
}

func scenarios() []scenario {
	always := append(unknownFields(nil, "key", "key_bytes", "revision", "synthetic", nameTime, nameParams, "last"),
		cel.AttributePattern(nameParams), cel.AttributePattern(nameVars), cel.AttributePattern(nameEvents), cel.AttributePattern(namePer))
	put := unknownFields(nil, "value", "bytes", "json", "create_revision", "lease")
	var previous []*cel.AttributePatternType
	for _, f := range valueFields {
		previous = append(previous, unknownFields([]string{"prev"}, f.name)...)
	}
	join := func(parts ...[]*cel.AttributePatternType) (all []*cel.AttributePatternType) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	old := &keyhook.KeyValue{Revision: 1, CreateRevision: 1, Version: 1}
	return []scenario{
		{&keyhook.Event{Type: keyhook.Put, Revision: 1, CreateRevision: 1, Version: 1}, join(always, put, unknownFields(nil, "version"))},
		{&keyhook.Event{Type: keyhook.Put, Revision: 2, CreateRevision: 1, Version: 2, Prev: old, Last: old}, join(always, put, previous, unknownFields(nil, "version"))},
		{&keyhook.Event{Type: keyhook.Delete, Revision: 2, Prev: old, Last: old}, join(always, previous)},
	}
}

// scenarios finds conditions that come out the same for every creation, update
// and deletion, whatever the key and the values are. It reports whether it has
// found one.
func (n *linter) scenarios(r *rule) bool {
	if r.when == nil {
		return false
	}
	n.env.scope = r.when.scope
	program, err := n.env.PlanProgram(r.when.checked, cel.EvalOptions(cel.OptPartialEval), cel.InterruptCheckFrequency(100))
	if err != nil {
		return false // it cannot be known
	}
	never, always, failed := true, true, ""
	for _, s := range scenarios() {
		st := n.set.states.get(Source{}, s.event, n.set.budget)
		st.enter(r, r.patterns[0])
		vars, err := cel.PartialVars(&st.plain, s.unknown...)
		if err != nil {
			return false
		}
		v, _, err := program.Eval(vars)
		n.set.states.put(st)
		switch {
		case err != nil:
			always, failed = false, err.Error()
		case types.IsUnknown(v):
			never, always = false, false
		case v == types.True:
			never = false
		default:
			always = false
		}
	}
	at := r.when.source.Position
	switch {
	case never && failed != "":
		n.report(lintNever, at, failed, "when: it never holds: it is false or fails for every creation, update and deletion")
	case never:
		n.report(lintNever, at, `event.type is "PUT" or "DELETE"`, "when: it never holds: it is false for every creation, update and deletion")
	case always:
		n.report(lintAlways, at, "remove it", "when: it always holds, for every creation, update and deletion")
	}
	return never || always
}
