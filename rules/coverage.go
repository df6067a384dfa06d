package rules

import "keyhook/internal/strictyaml"

// Branch is a place in a rule where its course divides: the whole condition, an
// operand of && or ||, the condition of ?:.
type Branch struct {
	Rule     string
	What     string // "when", "body", "vars.x", …
	Text     string
	Position strictyaml.Position
	// True and False say which of its values have been seen.
	True, False bool
}

// Branches returns every branch of every rule in the order of the rules, with
// what the traces so far have seen of it. An operand that CEL did not need to
// evaluate has not been seen.
func (t *Tracer) Branches() ([]Branch, error) {
	var all []Branch
	for _, r := range t.set.rules {
		t.env.scope = &scope{captures: r.captures, vars: r.vars, grouped: r.grouped}
		var expressions []*expression
		for _, v := range r.vars {
			if v.expr != nil {
				expressions = append(expressions, v.expr)
			}
		}
		if r.when != nil {
			expressions = append(expressions, r.when)
		}
		for _, s := range r.sends {
			expressions = append(expressions, s.expressions()...)
		}
		for _, x := range expressions {
			w, err := t.watch(x)
			if err != nil {
				return nil, err
			}
			if x == r.when {
				all = append(all, w.branch(r.name, x.what, w.root))
			}
			all = w.branches(all, r.name, x.what, w.root)
		}
	}
	return all, nil
}

// branches adds those within p.
func (w *watched) branches(all []Branch, rule, what string, p *part) []Branch {
	for i, inner := range p.parts {
		if p.op == opAnd || p.op == opOr || p.op == opChoice && i == 0 {
			all = append(all, w.branch(rule, what, inner))
		}
		all = w.branches(all, rule, what, inner)
	}
	return all
}

func (w *watched) branch(rule, what string, p *part) Branch {
	b := Branch{Rule: rule, What: what, Text: p.text, Position: p.at}
	if s := w.seen[p.id]; s != nil {
		b.True, b.False = s.isTrue, s.isFalse
	}
	return b
}
