package rules

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// Bounds of an expression that is run without being measured, whatever it is
// for: what it does at worst to inputs as large as they can be takes some
// milliseconds.
const (
	plainNodes = 200 // steps
	plainScans = 8   // of them may read a whole input
)

// plain reports whether an expression is bounded by its shape alone: it takes
// constant steps, and some that read their inputs once, and makes nothing that
// has more bytes than the limit. It is a sufficient condition; what it refuses
// may be cheap all the same, and is estimated.
func plain(checked *ast.AST, limit int) bool {
	p := plainness{ast: checked, limit: limit}
	_, ok := p.size(checked.Expr())
	return ok
}

// plainness counts what an expression does at worst.
type plainness struct {
	ast          *ast.AST
	limit        int
	nodes, scans int
}

// size returns how large the value of e can be, in bytes, and false if e is not
// plain.
func (p *plainness) size(e ast.Expr) (int, bool) {
	if p.nodes++; p.nodes > plainNodes {
		return 0, false
	}
	switch e.Kind() {
	case ast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.String:
			return len(v), true
		case types.Bytes:
			return len(v), true
		default:
			return 1, true
		}
	case ast.IdentKind:
		return 1, true
	case ast.SelectKind:
		s := e.AsSelect()
		if _, ok := p.size(s.Operand()); !ok {
			return 0, false
		}
		return p.read(e, s.Operand()), true
	case ast.ListKind:
		return p.sum(e.AsList().Elements())
	case ast.MapKind:
		total := 0
		for _, entry := range e.AsMap().Entries() {
			n, ok := p.sum([]ast.Expr{entry.AsMapEntry().Key(), entry.AsMapEntry().Value()})
			if !ok {
				return 0, false
			}
			total += n
		}
		return total, total <= p.limit
	case ast.CallKind:
		return p.call(e)
	default: // comprehensions, objects
		return 0, false
	}
}

// read is the size of what is read out of an input.
func (p *plainness) read(e, operand ast.Expr) int {
	switch t := p.ast.GetType(e.ID()); {
	case t == nil:
	case isScalar(t):
		return 8
	}
	if operand.Kind() == ast.IdentKind && operand.AsIdent() == nameVars {
		return int(conditionTier.memory)
	}
	return inputSize
}

func isScalar(t *types.Type) bool {
	switch t.Kind() {
	case types.BoolKind, types.IntKind, types.UintKind, types.DoubleKind, types.TimestampKind, types.DurationKind, types.NullTypeKind:
		return true
	default:
		return false
	}
}

func (p *plainness) sum(all []ast.Expr) (int, bool) {
	total := 0
	for _, e := range all {
		n, ok := p.size(e)
		if !ok {
			return 0, false
		}
		total += n
	}
	return total, total <= p.limit
}

func (p *plainness) call(e ast.Expr) (int, bool) {
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	total, ok := p.sum(args)
	if !ok {
		return 0, false
	}
	switch call.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot,
		operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate:
		return 8, true
	case operators.Conditional:
		return total, true
	case operators.Equals, operators.NotEquals:
		return 8, p.compare(args[0], args[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
		overloads.StartsWith, overloads.EndsWith:
		return 8, p.scan(2)
	case operators.In:
		// Of literals; to look through a list of an input may be long.
		return 8, args[1].Kind() == ast.ListKind && p.scan(1)
	case operators.Add:
		return total, p.scan(1)
	case operators.OptSelect, operators.OptIndex, operators.Index:
		return max(p.read(e, args[0]), total), true
	case "orValue", "or", "value", "hasValue", "optional.of", "optional.ofNonZeroValue":
		return total, true
	case "optional.none":
		return 1, true
	case overloads.Size, overloads.TypeConvertString, overloads.TypeConvertInt, overloads.TypeConvertUint,
		overloads.TypeConvertDouble, overloads.TypeConvertBool, "lowerAscii", "upperAscii", "trim":
		return max(total, 32), p.scan(1)
	case overloads.Contains:
		return 8, p.scan(2)
	case "nats.token":
		return 1024, p.scan(1)
	case functionChanged, functionChangedExcept:
		return 8, p.scan(2)
	default:
		return 0, false
	}
}

func (p *plainness) scan(n int) bool {
	p.scans += n
	return p.scans <= plainScans
}

// compare reports whether it is plain to compare x and y: two documents may be
// walked for long.
func (p *plainness) compare(x, y ast.Expr) bool {
	for _, e := range []ast.Expr{x, y} {
		if e.Kind() == ast.LiteralKind {
			return true
		}
		if t := p.ast.GetType(e.ID()); t != nil && isScalar(t) {
			return true
		}
	}
	for _, e := range []ast.Expr{x, y} {
		t := p.ast.GetType(e.ID())
		if t == nil || t.Kind() != types.StringKind && t.Kind() != types.BytesKind {
			return false
		}
	}
	return p.scan(1)
}
