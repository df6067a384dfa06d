package rules

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"cel.dev/cel-go/common/types"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// What a rule says about time, and about changes that belong together; see
// [keyhook.Timing].

// maxSpan bounds for and every: what waits longer outlives what it was about.
const maxSpan = 90 * 24 * time.Hour

// together reads whether the rule takes the changes of a revision as one, which
// decides what its expressions see.
func (b *builder) together(e *ruleEntry) {
	r := b.rule
	if e.Group != nil && e.Group.IsSet() {
		if e.Group.Value != "revision" {
			b.fail(e.Group.Position, `group: revision`, "%q is nothing that changes can be grouped by", e.Group.Value)
		}
		r.grouped = true
	}
	if e.Gaps != nil {
		r.gaps = e.Gaps.Value
	}
	if !r.grouped {
		return
	}
	if e.Per.IsSet() { // of each of the changes
		r.per = b.expression("per", kindPer, e.Per)
	}
	b.oneRange(e)
	b.c.env.scope.grouped, b.c.env.scope.per = true, e.Per.IsSet()
}

// timing reads the spans, behind everything that decides what they are about.
func (b *builder) timing(e *ruleEntry) {
	r := b.rule
	r.timing = keyhook.Timing{For: b.span("for", e.For), Every: b.span("every", e.Every)}
	if e.Per.IsSet() && !r.grouped {
		r.per = b.expression("per", kindPer, e.Per)
	}
	const ordered = "for and every are about what waits for each other, and with order: none nothing does"
	switch {
	case e.For != nil && r.grouped:
		b.fail(e.For.Position, "no later transaction says that this one is not true any more", "for cannot stand beside group")
	case e.For != nil && e.Per.IsSet():
		b.fail(e.Per.Position, "a condition holds for a key; remove per or for", "per cannot stand beside for")
	case e.Per.IsSet() && e.Every == nil && !r.grouped:
		b.fail(e.Per.Position, "every: 5m", "per says what every or group is about, and there is neither")
	case r.order == keyhook.OrderNone && e.For != nil:
		b.fail(e.For.Position, "remove order: none", ordered)
	case r.order == keyhook.OrderNone && e.Every != nil:
		b.fail(e.Every.Position, "remove order: none", ordered)
	}
	if r.timing.For > 0 && r.when == nil && !e.When.IsSet() {
		b.fail(e.For.Position, "when: event.type == \"DELETE\"", "for needs a condition that may cease to hold")
	}
}

func (b *builder) span(field string, d *strictyaml.At[strictyaml.Duration]) time.Duration {
	if d == nil || !d.IsSet() {
		return 0
	}
	switch span := d.Value.Std(); {
	case span <= 0:
		b.fail(d.Position, "remove it", "%s must be above 0", field)
	case span > maxSpan:
		b.fail(d.Position, "", "%s must not be longer than %d days", field, maxSpan/(24*time.Hour))
	default:
		return span
	}
	return 0
}

// oneRange sees to it that all the keys of the rule are read by one watcher: two
// of them come to the same transaction at different times.
func (b *builder) oneRange(e *ruleEntry) {
	var touched []keyhook.Range
	for _, w := range b.opts.Watch {
		within := func(o keyhook.Range) bool { return !o.Equal(w) && coverage(w, []keyhook.Range{o}) == whole }
		known := slices.ContainsFunc(touched, w.Equal)
		if known || slices.ContainsFunc(b.opts.Watch, within) {
			continue
		}
		if slices.ContainsFunc(b.rule.patterns, func(p *pattern) bool {
			return coverage(p.keyRange(), []keyhook.Range{w}) != disjoint
		}) {
			touched = append(touched, w)
		}
	}
	if len(touched) > 1 {
		b.fail(e.Group.Position, fmt.Sprintf("watch one prefix that holds both %s and %s, or make two rules of it", touched[0], touched[1]),
			"the keys of a rule with group must be watched together")
	}
}

// ranges returns the ranges that the rule asks for.
func (r *rule) ranges() []keyhook.Range {
	all := make([]keyhook.Range, len(r.patterns))
	for i, p := range r.patterns {
		all[i] = p.keyRange()
	}
	if !r.grouped || len(all) < 2 {
		return all
	}
	hull := all[0]
	for _, o := range all[1:] {
		if bytes.Compare(o.Start, hull.Start) < 0 {
			hull.Start = o.Start
		}
		if len(hull.End) > 0 && (len(o.End) == 0 || bytes.Compare(o.End, hull.End) > 0) {
			hull.End = o.End
		}
	}
	return []keyhook.Range{hull}
}

// The chain of the groups of a rule without per, and what the others begin with.
const (
	wholeRevision = "revision"
	perChain      = "per:"
)

// chain returns what the deliveries of a match share; nil for the key.
func (r *rule) chain(st *state) (chain []byte, failed *failure) {
	switch {
	case r.grouped && r.per == nil:
		return []byte(wholeRevision), nil
	case r.grouped:
		return []byte(perChain + string(st.per)), nil
	case r.per == nil:
		return nil, nil
	}
	defer func() {
		if p := recover(); p != nil {
			chain, failed = nil, panicked(r.per, p)
		}
	}()
	per, failed := r.perOf(st)
	return []byte(perChain + string(per)), failed
}

// perOf evaluates per, which may be any text.
func (r *rule) perOf(st *state) (types.String, *failure) {
	v, failed := r.per.evaluate(st)
	if failed != nil {
		return "", failed
	}
	per, ok := v.(types.String)
	switch {
	case !ok:
		return "", &failure{expr: r.per, text: fmt.Sprintf("it must give a string, not %s", v.Type().TypeName())}
	case len(per) > maxPer:
		return "", &failure{expr: r.per, text: fmt.Sprintf("it gives %d bytes, more than %d", len(per), maxPer)}
	}
	return per, nil
}
