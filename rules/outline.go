package rules

import (
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"keyhook/internal/strictyaml"
)

// operation is how the value of a part follows from those of its own parts.
type operation uint8

const (
	opLeaf   operation = iota // it does not, or as any function's does
	opAnd                     // of two or more
	opOr                      // of two or more
	opNot                     // of one
	opChoice                  // condition, then, else
	opMacro                   // what it ranges over, then what is evaluated many times
)

// part is an expression as its author wrote it: macros are not expanded, and
// "a && b && c" is one operation of three.
type part struct {
	id      int64
	op      operation
	text    string
	at      strictyaml.Position
	literal bool
	parts   []*part
	once    int // how many parts of a macro have one value: what it ranges over
}

// outliner makes parts of a checked expression.
type outliner struct {
	source strictyaml.Text
	info   *ast.SourceInfo
}

func outline(source strictyaml.Text, checked *ast.AST) *part {
	o := outliner{source: source, info: checked.SourceInfo()}
	return o.part(checked.Expr())
}

func (o *outliner) part(e ast.Expr) *part {
	p := &part{id: e.ID(), at: o.place(e), text: o.text(e)}
	if written, ok := o.info.GetMacroCall(e.ID()); ok {
		o.macro(p, written.AsCall())
		return p
	}
	switch e.Kind() {
	case ast.CallKind:
		if r := root(e); r.ID() != e.ID() {
			o.add(p, r)
			break
		}
		o.call(p, e.AsCall())
	case ast.SelectKind:
		o.add(p, root(e))
	case ast.LiteralKind:
		p.literal = true
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			o.add(p, x)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			o.add(p, x.AsMapEntry().Key())
			o.add(p, x.AsMapEntry().Value())
		}
	case ast.ComprehensionKind: // of no macro: what is evaluated once
		o.add(p, e.AsComprehension().IterRange())
	default:
	}
	return p
}

// add adds what may have a value worth knowing.
func (o *outliner) add(p *part, e ast.Expr) {
	if !constant(e) && e.Kind() != ast.IdentKind {
		p.parts = append(p.parts, o.part(e))
	}
}

// constant reports whether e is written out, as are lists of what is.
func constant(e ast.Expr) bool {
	if e.Kind() == ast.ListKind {
		return !slices.ContainsFunc(e.AsList().Elements(), func(x ast.Expr) bool { return !constant(x) })
	}
	return e.Kind() == ast.LiteralKind
}

func (o *outliner) call(p *part, c ast.CallExpr) {
	switch c.FunctionName() {
	case operators.LogicalAnd:
		p.op = opAnd
		o.flatten(p, c)
	case operators.LogicalOr:
		p.op = opOr
		o.flatten(p, c)
	case operators.LogicalNot:
		p.op = opNot
		p.parts = append(p.parts, o.part(c.Args()[0]))
	case operators.Conditional:
		p.op = opChoice
		for _, x := range c.Args() {
			p.parts = append(p.parts, o.part(x))
		}
	default:
		if c.IsMemberFunction() {
			o.add(p, c.Target())
		}
		for _, x := range c.Args() {
			o.add(p, x)
		}
	}
}

// flatten adds the operands of c, and those of operands that are the same
// operation.
func (o *outliner) flatten(p *part, c ast.CallExpr) {
	for _, x := range c.Args() {
		if _, written := o.info.GetMacroCall(x.ID()); !written && x.Kind() == ast.CallKind && x.AsCall().FunctionName() == c.FunctionName() {
			o.flatten(p, x.AsCall())
			continue
		}
		p.parts = append(p.parts, o.part(x))
	}
}

// macro adds what a macro was called with. has() is a question of its own.
func (o *outliner) macro(p *part, c ast.CallExpr) {
	if c.FunctionName() == operators.Has {
		return
	}
	p.op = opMacro
	if c.IsMemberFunction() {
		o.add(p, c.Target())
		p.once = len(p.parts)
	}
	for _, x := range c.Args() {
		o.add(p, x)
	}
}

// text writes e on one line.
func (o *outliner) text(e ast.Expr) string {
	s, err := cel.ExprToString(e, o.info)
	if err != nil {
		return "…" // what was parsed can be written
	}
	return strings.ReplaceAll(s, "\n", " ")
}

// root returns what a path begins with, such as event of event.json.?a[0]: a
// path has a value as a whole.
func root(e ast.Expr) ast.Expr {
	for {
		switch e.Kind() {
		case ast.SelectKind:
			e = e.AsSelect().Operand()
			continue
		case ast.CallKind:
			args := e.AsCall().Args()
			switch e.AsCall().FunctionName() {
			case operators.OptSelect, operators.Index, operators.OptIndex:
				if constant(args[1]) {
					e = args[0]
					continue
				}
			}
		default:
		}
		return e
	}
}

// place returns where e begins. CEL has the place of its operator, dot or
// parenthesis.
func (o *outliner) place(e ast.Expr) strictyaml.Position {
	var back int
	var id int64
	for {
		id = e.ID()
		if written, ok := o.info.GetMacroCall(e.ID()); ok {
			e = written
		}
		next := leftmost(e)
		if next == nil {
			if e.Kind() == ast.CallKind && !e.AsCall().IsMemberFunction() {
				if name := e.AsCall().FunctionName(); !strings.ContainsAny(name, "_@!-") {
					back = len(name)
				}
			}
			break
		}
		e = next
	}
	at := o.info.GetStartLocation(id)
	place, _ := o.source.Locate(at.Line(), max(0, at.Column()-back))
	return place
}

// leftmost returns the operand that an expression begins with, nil if it begins
// with itself.
func leftmost(e ast.Expr) ast.Expr {
	switch e.Kind() {
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			return nil
		}
		return e.AsSelect().Operand()
	case ast.CallKind:
	default:
		return nil
	}
	c := e.AsCall()
	if c.IsMemberFunction() {
		return c.Target()
	}
	name := c.FunctionName()
	if _, binary := operators.FindReverseBinaryOperator(name); binary && len(c.Args()) == 2 {
		return c.Args()[0]
	}
	switch name {
	case operators.Conditional, operators.Index, operators.OptIndex, operators.OptSelect:
		return c.Args()[0]
	default:
		return nil
	}
}
