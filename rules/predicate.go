package rules

import (
	"math"
	"regexp/syntax"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// predicate is what a condition needs of an event: all of its clauses. Where one
// of them is false the condition is false, whatever the rest of it is: in CEL
// false && error is false in either order. Where one of them is an error the
// condition is false or an error.
type predicate struct {
	clauses []clause
	limited bool // the condition may end at a limit instead of with a value
}

// clause is true if one of its atoms is.
type clause []atom

// atom compares an attribute of the event with a literal.
type atom struct {
	// attribute is CEL: a part of the condition, written in one way only.
	attribute string
	op        op
	literal   scalar
	captures  bool // the attribute reads params, which depend on the pattern
}

type op uint8

const (
	equals op = iota
	begins
	ends
)

// scalar is a value of which equality is that of Go: numbers of all types are
// equal if their values are, up to maxExact.
type scalar struct {
	kind   types.Kind
	text   string // of strings and bytes
	number float64
}

// maxExact is above all whole numbers that a double holds exactly together with
// their neighbours.
const maxExact = 1 << 53

// scalarOf returns v for a comparison with literals, and false if it is equal to
// none.
func scalarOf(v ref.Val) (scalar, bool) {
	switch t := v.(type) {
	case types.String:
		return scalar{kind: types.StringKind, text: string(t)}, true
	case types.Bytes:
		return scalar{kind: types.BytesKind, text: string(t)}, true
	case types.Bool:
		n := 0.0
		if t {
			n = 1
		}
		return scalar{kind: types.BoolKind, number: n}, true
	case types.Null:
		return scalar{kind: types.NullTypeKind}, true
	case types.Int:
		return scalar{kind: types.DoubleKind, number: float64(t)}, true
	case types.Uint:
		return scalar{kind: types.DoubleKind, number: float64(t)}, true
	case types.Double:
		return scalar{kind: types.DoubleKind, number: float64(t)}, true
	default:
		return scalar{}, false
	}
}

// literalOf returns a literal that can be looked up.
func literalOf(e ast.Expr) (scalar, bool) {
	if e.Kind() != ast.LiteralKind {
		return scalar{}, false
	}
	s, ok := scalarOf(e.AsLiteral())
	return s, ok && math.Abs(s.number) < maxExact // not so for NaN
}

// predicateOf returns the clauses of a condition; nil if there are none. Of a
// condition that may end at a limit only those count that are evaluated before
// anything else.
func predicateOf(condition *ast.AST, limited bool) *predicate {
	p := &predicate{limited: limited}
	p.conjunct(condition.Expr(), limited)
	if len(p.clauses) == 0 {
		return nil
	}
	return p
}

// conjunct adds the clauses of e. It reports whether anything that is no clause
// stands in e.
func (p *predicate) conjunct(e ast.Expr, limited bool) (residual bool) {
	if args, ok := callOf(e, operators.LogicalAnd); ok {
		residual = p.conjunct(args[0], limited)
		if residual && limited {
			return true
		}
		return p.conjunct(args[1], limited) || residual
	}
	c, ok := clauseOf(e)
	if !ok {
		return true
	}
	p.clauses = append(p.clauses, c)
	return false
}

func callOf(e ast.Expr, function string) ([]ast.Expr, bool) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != function {
		return nil, false
	}
	return e.AsCall().Args(), true
}

// maxAtoms bounds a clause: a rule that is found by more values is looked at
// each time instead.
const maxAtoms = 256

func clauseOf(e ast.Expr) (clause, bool) {
	if e.Kind() != ast.CallKind {
		return nil, false
	}
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalOr:
		left, ok := clauseOf(args[0])
		if !ok {
			return nil, false
		}
		right, ok := clauseOf(args[1])
		if !ok || len(left)+len(right) > maxAtoms {
			return nil, false
		}
		return append(left, right...), true
	case operators.Equals:
		for i, arg := range args {
			if literal, ok := literalOf(arg); ok {
				return newClause(args[1-i], equals, literal)
			}
		}
	case operators.In:
		return membership(args)
	case overloads.StartsWith, overloads.EndsWith:
		literal, ok := textLiteral(args)
		if !ok || !call.IsMemberFunction() {
			return nil, false
		}
		op := begins
		if call.FunctionName() == overloads.EndsWith {
			op = ends
		}
		return newClause(call.Target(), op, literal)
	case overloads.Matches:
		literal, ok := textLiteral(args)
		if !ok || !call.IsMemberFunction() {
			return nil, false
		}
		prefix, ok := anchoredPrefix(literal.text)
		if !ok {
			return nil, false
		}
		return newClause(call.Target(), begins, scalar{kind: types.StringKind, text: prefix})
	}
	return nil, false
}

func textLiteral(args []ast.Expr) (scalar, bool) {
	if len(args) != 1 {
		return scalar{}, false
	}
	literal, ok := literalOf(args[0])
	return literal, ok && literal.kind == types.StringKind && literal.text != ""
}

// membership is the clause of x in [literals].
func membership(args []ast.Expr) (clause, bool) {
	if args[1].Kind() != ast.ListKind {
		return nil, false
	}
	elements := args[1].AsList().Elements()
	if len(elements) == 0 || len(elements) > maxAtoms || len(args[1].AsList().OptionalIndices()) > 0 {
		return nil, false
	}
	var all clause
	for _, e := range elements {
		literal, ok := literalOf(e)
		if !ok {
			return nil, false
		}
		c, ok := newClause(args[0], equals, literal)
		if !ok {
			return nil, false
		}
		all = append(all, c...)
	}
	return all, true
}

func newClause(e ast.Expr, op op, literal scalar) (clause, bool) {
	w := attributeWriter{}
	if !w.write(e) || !w.reads {
		return nil, false
	}
	return clause{{attribute: w.text.String(), op: op, literal: literal, captures: w.captures}}, true
}

// anchoredPrefix returns what every match of a regular expression that begins
// with "^" begins with.
func anchoredPrefix(pattern string) (string, bool) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return "", false
	}
	parsed = parsed.Simplify()
	if parsed.Op != syntax.OpConcat || len(parsed.Sub) < 2 || parsed.Sub[0].Op != syntax.OpBeginText {
		return "", false
	}
	text := parsed.Sub[1]
	if text.Op != syntax.OpLiteral || text.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	prefix := string(text.Rune)
	return prefix, prefix != ""
}

// attributeWriter writes an expression in a form that is the same wherever it
// means the same. It takes those only whose value is that of the event and the
// captures.
type attributeWriter struct {
	text            strings.Builder
	reads, captures bool
}

func (w *attributeWriter) write(e ast.Expr) bool {
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		w.reads = true
		w.captures = w.captures || name == nameParams
		w.text.WriteString(name)
		return name == nameEvent || name == nameParams
	case ast.LiteralKind:
		return w.literal(e)
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() || !w.write(s.Operand()) {
			return false
		}
		w.text.WriteString("." + s.FieldName())
		return isIdentifier(s.FieldName())
	case ast.CallKind:
		return w.call(e.AsCall())
	default:
		return false
	}
}

func (w *attributeWriter) literal(e ast.Expr) bool {
	switch v := e.AsLiteral().(type) {
	case types.String:
		w.text.WriteString(strconv.Quote(string(v)))
	case types.Int:
		w.text.WriteString(strconv.FormatInt(int64(v), 10))
	case types.Bool:
		w.text.WriteString(strconv.FormatBool(bool(v)))
	case types.Null:
		w.text.WriteString("null")
	default:
		return false
	}
	return true
}

// attributeCalls are the functions that an attribute may call on something.
var attributeCalls = map[string]bool{
	"orValue": true, "lowerAscii": true, "upperAscii": true, "trim": true,
}

func (w *attributeWriter) call(c ast.CallExpr) bool {
	args := c.Args()
	switch name := c.FunctionName(); name {
	case operators.OptSelect:
		if !w.write(args[0]) {
			return false
		}
		field, ok := args[1].AsLiteral().(types.String)
		w.text.WriteString(".?" + string(field))
		return ok && isIdentifier(string(field))
	case operators.Index, operators.OptIndex:
		open := "["
		if name == operators.OptIndex {
			open = "[?"
		}
		if !w.write(args[0]) {
			return false
		}
		w.text.WriteString(open)
		if args[1].Kind() != ast.LiteralKind || !w.literal(args[1]) {
			return false
		}
		w.text.WriteString("]")
		return true
	default:
		if !c.IsMemberFunction() || !attributeCalls[name] || !w.write(c.Target()) {
			return false
		}
		w.text.WriteString("." + name + "(")
		for i, arg := range args {
			if i > 0 {
				w.text.WriteString(", ")
			}
			if arg.Kind() != ast.LiteralKind || !w.literal(arg) {
				return false
			}
		}
		w.text.WriteString(")")
		return true
	}
}
