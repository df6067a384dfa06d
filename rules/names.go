package rules

import (
	"slices"

	"cel.dev/cel-go/common/ast"
)

// freeNames calls visit for the names in e that are not those of a macro's
// variables, which bound holds already.
func freeNames(e ast.Expr, bound []string, visit func(ast.Expr)) {
	all := func(es ...ast.Expr) {
		for _, e := range es {
			freeNames(e, bound, visit)
		}
	}
	switch e.Kind() {
	case ast.IdentKind:
		if !slices.Contains(bound, e.AsIdent()) {
			visit(e)
		}
	case ast.SelectKind:
		all(e.AsSelect().Operand())
	case ast.ListKind:
		all(e.AsList().Elements()...)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			all(entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.CallKind:
		if e.AsCall().IsMemberFunction() {
			all(e.AsCall().Target())
		}
		all(e.AsCall().Args()...)
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		all(c.IterRange(), c.AccuInit())
		bound = append(slices.Clip(bound), c.AccuVar())
		all(c.Result())
		bound = append(bound, c.IterVar())
		if c.HasIterVar2() {
			bound = append(bound, c.IterVar2())
		}
		all(c.LoopCondition(), c.LoopStep())
	default:
	}
}
