package rules

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"

	"keyhook/internal/strictyaml"
)

// LintOptions ask for a closer look at rules that load: at what they mean.
type LintOptions struct {
	// Etcd are the endpoints of the etcd that is watched.
	Etcd []string
}

// What a closer look finds, as it is named in [strictyaml.Problem.Code].
const (
	lintNever     = "never-matches"
	lintAlways    = "always-matches"
	lintDuplicate = "duplicate-rule"
	lintShadowed  = "shadowed-rule"
	lintUnguarded = "unguarded-field"
	lintPrevious  = "unguarded-previous"
	lintLiteral   = "literal-type"
	lintMixed     = "mixed-types"
	lintSink      = "unused-sink"
	lintCapture   = "unused-capture"
	lintRetry     = "retry-horizon"
	lintLoop      = "write-back"
	lintLinear    = "linear-rules"
)

// linter looks at a set that has loaded without an error.
type linter struct {
	set      *Set
	opts     LintOptions
	entries  []*ruleEntry // by the place of their rules in set
	env      *environment
	findings strictyaml.Problems
}

// lint returns what it finds, in no order.
func (l *loader) lint(set *Set, entries []*ruleEntry, env *environment) strictyaml.Problems {
	n := &linter{set: set, opts: *l.opts.Lint, entries: entries, env: env}
	for i, r := range set.rules {
		n.captures(r, entries[i])
		if n.scenarios(r) || n.contradiction(r) {
			continue // all else follows from it
		}
		n.access(r)
		n.literals(r)
	}
	n.twins()
	n.sinks()
	n.linear()
	return n.findings
}

func (n *linter) report(code string, at strictyaml.Position, hint, format string, args ...any) {
	p := at.Problemf(format, args...).WithHint(hint)
	p.Code = code
	n.findings = append(n.findings, p)
}

// at returns the place of a part of an expression.
func (x *expression) at(e ast.Expr) strictyaml.Position {
	start := x.checked.SourceInfo().GetStartLocation(e.ID())
	place, _ := x.source.Locate(start.Line(), start.Column())
	return place
}

// expressions returns all of a rule.
func (r *rule) expressions() []*expression {
	var all []*expression
	for _, x := range []*expression{r.when, r.per} {
		if x != nil {
			all = append(all, x)
		}
	}
	for _, v := range r.vars {
		all = append(all, v.expr)
	}
	for _, s := range r.sends {
		all = append(all, s.expressions()...)
	}
	return all
}

// captures finds those that no message tells of, neither by them nor by the key:
// whoever gets it cannot know which is meant. One that takes the rest of a key is
// there to match, as is one whose name begins with "_".
func (n *linter) captures(r *rule, e *ruleEntry) {
	if tellsKey(r) {
		return
	}
	read := map[string]bool{}
	for _, x := range r.expressions() {
		ast.PreOrderVisit(x.checked.Expr(), ast.NewExprVisitor(func(part ast.Expr) {
			switch part.Kind() {
			case ast.SelectKind:
				if t := x.checked.GetType(part.AsSelect().Operand().ID()); t != nil && t.TypeName() == paramsType.TypeName() {
					read[part.AsSelect().FieldName()] = true
				}
			default:
			}
		}))
		if wholeParams(x.checked.Expr()) {
			return
		}
	}
	if len(r.patterns) > 1 || len(e.Keys) != 1 {
		return // a capture may be there because another pattern needs it
	}
	p := r.patterns[0]
	for i, c := range p.captures {
		if rest := p.rest && i == len(p.captures)-1; rest || c.name[0] == '_' || read[c.name] {
			continue
		}
		n.report(lintCapture, e.Keys[0].Position, "let the message tell of it, or call it {_"+c.name+"} if it is there to match only", "keys: nothing reads params.%s", c.name)
	}
}

// tellsKey reports whether a rule's messages or conditions know the whole key:
// they read it, hand on the whole event, or are CloudEvents, which have it.
func tellsKey(r *rule) bool {
	for _, s := range r.sends {
		if s.body == nil {
			return true
		}
	}
	found := false
	for _, x := range r.expressions() {
		ast.PreOrderVisit(x.checked.Expr(), ast.NewExprVisitor(func(part ast.Expr) {
			if part.Kind() == ast.SelectKind {
				name := part.AsSelect().FieldName()
				found = found || (name == "key" || name == "key_bytes") && part.AsSelect().Operand().Kind() == ast.IdentKind
			}
		}))
	}
	return found
}

// wholeParams reports whether params stands somewhere without a field of it.
func wholeParams(e ast.Expr) bool {
	names, fields := 0, 0
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(part ast.Expr) {
		switch part.Kind() {
		case ast.IdentKind:
			if part.AsIdent() == nameParams {
				names++
			}
		case ast.SelectKind:
			if o := part.AsSelect().Operand(); o.Kind() == ast.IdentKind && o.AsIdent() == nameParams {
				fields++
			}
		default:
		}
	}))
	return names > fields
}

// linear finds rules of which so many are looked at for each change of the same
// keys that it takes long.
func (n *linter) linear() {
	const many = 500
	for _, g := range n.set.index.groups {
		left := g.rest
		if g.chosen == nil {
			left = g.all
		}
		if len(left) < many {
			continue
		}
		first := n.set.rules[left[0].rule]
		n.report(lintLinear, first.position, `let each compare a field with a literal of its own: event.json.tenant == "a" && ...`,
			"%d rules look at each change of %s, because their conditions do not tell them apart", len(left), first.patterns[left[0].pattern].source)
	}
}

// contradiction finds conditions that ask for two values of the same, or for one
// that it never has. It reports whether it has found one.
func (n *linter) contradiction(r *rule) bool {
	if r.when == nil || r.when.only == nil {
		return false
	}
	possible := map[string][]scalar{}
	for _, c := range r.when.only.clauses {
		attribute := c[0].attribute
		var values []scalar
		for _, a := range c {
			if a.op != equals || a.attribute != attribute {
				values = nil
				break
			}
			values = append(values, a.literal)
		}
		if values == nil {
			continue
		}
		before, known := possible[attribute]
		if !known {
			possible[attribute] = values
			continue
		}
		both := slices.DeleteFunc(slices.Clone(before), func(s scalar) bool { return !slices.Contains(values, s) })
		if len(both) == 0 {
			n.report(lintNever, r.when.source.Position, "use || or in [...] if one of them is enough", "when: it never holds: %s cannot be two things at once", attribute)
			return true
		}
		possible[attribute] = both
	}
	return n.impossible(r, possible)
}

// impossible finds captures and keys that are compared with what no key has.
func (n *linter) impossible(r *rule, possible map[string][]scalar) bool {
	for _, attribute := range slices.Sorted(maps.Keys(possible)) {
		values := possible[attribute]
		var can func(*pattern, scalar) bool
		if attribute == nameEvent+".key" {
			can = func(p *pattern, s scalar) bool { _, ok := p.match([]byte(s.text), nil); return ok }
		}
		for _, name := range r.captures {
			if attribute == nameParams+"."+name {
				can = func(p *pattern, s scalar) bool { return p.canCapture(name, s.text) }
			}
		}
		if can == nil {
			continue
		}
		if !slices.ContainsFunc(values, func(s scalar) bool {
			return slices.ContainsFunc(r.patterns, func(p *pattern) bool { return can(p, s) })
		}) {
			n.report(lintNever, r.when.source.Position, "", "when: it never holds: with these keys %s is never %q", attribute, values[0].text)
			return true
		}
	}
	return false
}

// canCapture reports whether a capture may take a text.
func (p *pattern) canCapture(name, text string) bool {
	for i, c := range p.captures {
		if c.name != name {
			continue
		}
		if p.rest && i == len(p.captures)-1 {
			return true
		}
		for j := range len(text) {
			if text[j] == '/' {
				return false
			}
		}
		return text != ""
	}
	return true
}
