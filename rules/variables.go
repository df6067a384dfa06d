package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// variables compiles the vars of a rule, each behind those that it needs, and
// fixes the scope of all further expressions.
func (b *builder) variables(entries namedTexts) {
	r := b.rule
	byName := make(map[string]*pending, len(entries))
	var all []*pending
	for _, e := range entries {
		if !isIdentifier(e.name) || reservedNames[e.name] {
			b.fail(e.position, "a name has letters, digits and _, and does not begin with a digit", "vars: %q is not a name for a variable", e.name)
			continue
		}
		p := &pending{namedText: e, variable: &variable{name: e.name}}
		p.needs = b.c.variablesIn(e.text.Value)
		byName[e.name] = p
		all = append(all, p)
		r.vars = append(r.vars, p.variable)
	}
	b.c.env.scope.vars = r.vars
	for _, p := range all {
		b.order(p, byName)
	}
	b.scopeKey = scopeKey(b.c.env.scope)
}

// pending is a variable that is being compiled.
type pending struct {
	namedText
	variable *variable
	needs    []string
	state    uint8
}

const (
	waiting uint8 = iota
	underway
	done
)

// order compiles the variables that p needs, and then p.
func (b *builder) order(p *pending, byName map[string]*pending) bool {
	switch p.state {
	case done:
		return true
	case underway:
		return false
	}
	p.state = underway
	for _, name := range p.needs {
		if q := byName[name]; q != nil && !b.order(q, byName) {
			b.fail(p.position, "", "vars: %s needs itself, through vars.%s", p.name, name)
		}
	}
	p.state = done
	b.scopeKey = scopeKey(b.c.env.scope)
	p.variable.expr = b.expression("vars."+p.name, kindVariable, p.text)
	return true
}

// scopeKey says what the names of a scope mean, for a cache.
func scopeKey(s *scope) string {
	var k strings.Builder
	fmt.Fprintf(&k, "%t %t %s", s.grouped, s.per, strings.Join(s.captures, ","))
	for _, v := range s.vars {
		k.WriteByte('|')
		if v.expr != nil {
			fmt.Fprintf(&k, "%s %s %t", v.name, v.expr.typ, v.expr.timed)
		}
	}
	return k.String()
}

// variablesIn returns the variables that an expression reads; none if it cannot
// be parsed, which compiling it will report.
func (c *compiler) variablesIn(source string) []string {
	parsed, issues := c.env.Parse(source)
	if issues.Err() != nil {
		return nil
	}
	var names []string
	add := func(operand ast.Expr, name string) {
		if operand.Kind() == ast.IdentKind && operand.AsIdent() == nameVars && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			add(e.AsSelect().Operand(), e.AsSelect().FieldName())
		case ast.CallKind:
			call := e.AsCall()
			if args := call.Args(); call.FunctionName() == operators.OptSelect && len(args) == 2 && args[1].Kind() == ast.LiteralKind {
				if name, ok := args[1].AsLiteral().Value().(string); ok {
					add(args[0], name)
				}
			}
		default:
		}
	}))
	return names
}
