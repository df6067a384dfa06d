package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// facts are the paths that are known to lead to something, such as "event.prev"
// and "event.json.state".
type facts map[string]bool

func (f facts) with(o facts) facts {
	all := maps.Clone(f)
	if all == nil {
		all = facts{}
	}
	maps.Copy(all, o)
	return all
}

// know adds a path, and what leads to it.
func (f facts) know(path string) {
	for path != "" {
		f[path] = true
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

// pathOf writes an expression that reads a part of the event, without default;
// "" if it is something else.
func pathOf(e ast.Expr) string {
	w := attributeWriter{}
	if e.Kind() != ast.SelectKind && e.Kind() != ast.CallKind || !w.write(e) || strings.ContainsAny(w.text.String(), "?(") {
		return ""
	}
	return w.text.String()
}

// whenTrue returns what is known where e is true, and whenFalse where it is not.
func whenTrue(e ast.Expr) facts {
	f := facts{}
	switch e.Kind() {
	case ast.SelectKind:
		s := e.AsSelect()
		if s.IsTestOnly() {
			w := attributeWriter{}
			if w.write(s.Operand()) {
				f.know(strings.ReplaceAll(w.text.String(), "?", "") + "." + s.FieldName())
			}
			return f
		}
	case ast.CallKind:
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case "hasValue":
			if path, ok := optionalPath(e.AsCall().Target()); ok {
				f.know(path)
			}
		case operators.LogicalAnd:
			return whenTrue(args[0]).with(whenTrue(args[1]))
		case operators.LogicalNot:
			return whenFalse(args[0])
		case operators.Equals:
			if isType(args, "DELETE") {
				f.know("event.prev")
			}
			f.beyondDefault(args[0], func(d scalar) bool { l, ok := literalOf(args[1]); return ok && l != d })
			f.beyondDefault(args[1], func(d scalar) bool { l, ok := literalOf(args[0]); return ok && l != d })
		case operators.NotEquals:
			f.beyondDefault(args[0], func(d scalar) bool { l, ok := literalOf(args[1]); return ok && l == d })
			f.beyondDefault(args[1], func(d scalar) bool { l, ok := literalOf(args[0]); return ok && l == d })
		case operators.In:
			f.beyondDefault(args[0], func(d scalar) bool {
				return args[1].Kind() == ast.ListKind && !slices.ContainsFunc(args[1].AsList().Elements(), func(e ast.Expr) bool {
					l, ok := literalOf(e)
					return !ok || l == d
				})
			})
		}
	default:
	}
	// It has a value, so what it reads is there.
	for _, path := range strictly(e) {
		f.know(path)
	}
	return f
}

// beyondDefault adds what e reads if e is a read with a default, and has another
// value than that: then it was there.
func (f facts) beyondDefault(e ast.Expr, other func(dflt scalar) bool) {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "orValue" || !e.AsCall().IsMemberFunction() {
		return
	}
	dflt, ok := literalOf(e.AsCall().Args()[0])
	path, known := optionalPath(e.AsCall().Target())
	if ok && known && other(dflt) {
		f.know(path)
	}
}

// optionalPath writes an expression that reads a part of the event optionally, as
// one that reads it without doubt.
func optionalPath(e ast.Expr) (string, bool) {
	w := attributeWriter{}
	if !w.write(e) || strings.Contains(w.text.String(), "(") {
		return "", false
	}
	return strings.ReplaceAll(w.text.String(), "?", ""), true
}

func whenFalse(e ast.Expr) facts {
	f := facts{}
	switch {
	case pathOf(e) == "event.created":
		f.know("event.prev")
	case e.Kind() != ast.CallKind:
	case e.AsCall().FunctionName() == operators.LogicalNot:
		return whenTrue(e.AsCall().Args()[0])
	case e.AsCall().FunctionName() == operators.LogicalOr:
		args := e.AsCall().Args()
		return whenFalse(args[0]).with(whenFalse(args[1]))
	case e.AsCall().FunctionName() == operators.Equals && isType(e.AsCall().Args(), "PUT"),
		e.AsCall().FunctionName() == operators.NotEquals && isType(e.AsCall().Args(), "DELETE"):
		f.know("event.prev")
	}
	return f
}

// isType reports whether event.type is compared with a name.
func isType(args []ast.Expr, name string) bool {
	for i, arg := range args {
		if literal, ok := literalOf(arg); ok && literal.text == name && pathOf(args[1-i]) == "event.type" {
			return true
		}
	}
	return false
}

// strictly returns the paths without which e has no value.
func strictly(e ast.Expr) []string {
	switch e.Kind() {
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			return nil
		}
		if path := pathOf(e); path != "" {
			return []string{path}
		}
		return strictly(e.AsSelect().Operand())
	case ast.ListKind:
		return strictlyAll(e.AsList().Elements())
	case ast.CallKind:
		call := e.AsCall()
		if path := pathOf(e); path != "" {
			return []string{path}
		}
		switch call.FunctionName() {
		case operators.LogicalAnd, operators.LogicalOr, operators.Conditional, operators.OptSelect, operators.OptIndex,
			"orValue", "or", functionChanged, functionChangedExcept:
			return nil
		}
		all := strictlyAll(call.Args())
		if call.IsMemberFunction() {
			all = append(all, strictly(call.Target())...)
		}
		return all
	case ast.ComprehensionKind:
		return strictly(e.AsComprehension().IterRange())
	default:
		return nil
	}
}

func strictlyAll(es []ast.Expr) (paths []string) {
	for _, e := range es {
		paths = append(paths, strictly(e)...)
	}
	return paths
}

// access finds what is read without knowing that it is there.
func (n *linter) access(r *rule) {
	if r.grouped {
		return
	}
	known := facts{}
	if r.when != nil {
		known = whenTrue(r.when.checked.Expr()).with(considered(r.when.checked.Expr()))
		n.guarded(r.when, facts{}, "a change without it counts as a failure of the rule")
	}
	for _, s := range r.sends {
		for _, x := range s.expressions() {
			n.guarded(x, known, "a change without it becomes a dead letter")
		}
	}
}

// considered is what a condition reads as something that may not be there:
// whoever wrote that has thought of what follows where it is not.
func considered(e ast.Expr) facts {
	f := facts{}
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(part ast.Expr) {
		if args, ok := callOf(part, operators.OptSelect); ok && args[0].Kind() == ast.IdentKind && args[0].AsIdent() == nameEvent {
			if field, ok := args[1].AsLiteral().(types.String); ok {
				f.know(nameEvent + "." + string(field))
			}
		}
	}))
	return f
}

// guarded reports the first part of x that may not be there.
func (n *linter) guarded(x *expression, known facts, consequence string) {
	w := &guardWalk{known: known}
	w.walk(x.checked.Expr(), known)
	if w.previous != nil {
		n.report(lintPrevious, x.at(w.previous), fmt.Sprintf("guard it: has(event.%[1]s) && ..., or read event.?%[1]s.value.orValue(\"\"); %[2]s", w.previousName, consequence),
			"%s: event.%s is absent for a key that was created", x.what, w.previousName)
	}
	if w.field == nil {
		return
	}
	path := pathOf(w.field)
	root, rest, _ := strings.Cut(path, ".json")
	n.report(lintUnguarded, x.at(w.field), "read it as "+root+".json"+strings.NewReplacer(".", ".?", "[", "[?").Replace(rest)+".orValue(...), or test it with has(...); "+consequence,
		"%s: %s may not be there", x.what, path)
}

// guardWalk finds the first unguarded read of each kind.
type guardWalk struct {
	known           facts
	previous, field ast.Expr
	previousName    string
}

func (w *guardWalk) walk(e ast.Expr, known facts) {
	switch e.Kind() {
	case ast.SelectKind:
		if e.AsSelect().IsTestOnly() {
			w.read(e.AsSelect().Operand(), known)
			return
		}
		w.read(e, known)
	case ast.CallKind:
		w.call(e, known)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.walk(x, known)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			w.walk(entry.AsMapEntry().Key(), known)
			w.walk(entry.AsMapEntry().Value(), known)
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		w.walk(c.IterRange(), known)
		w.walk(c.LoopCondition(), known)
		w.walk(c.LoopStep(), known)
	default:
	}
}

func (w *guardWalk) call(e ast.Expr, known facts) {
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.LogicalAnd: // either side may guard the other
		w.walk(args[0], known.with(guarding(args[1])))
		w.walk(args[1], known.with(whenTrue(args[0])))
		return
	case operators.LogicalOr:
		w.walk(args[0], known.with(whenFalse(args[1])))
		w.walk(args[1], known.with(whenFalse(args[0])))
		return
	case operators.Conditional:
		w.walk(args[0], known)
		w.walk(args[1], known.with(whenTrue(args[0])))
		w.walk(args[2], known.with(whenFalse(args[0])))
		return
	case operators.Index:
		w.read(e, known)
		return
	case operators.OptSelect, operators.OptIndex:
		w.read(args[0], known)
		return
	}
	if call.IsMemberFunction() {
		w.walk(call.Target(), known)
	}
	for _, arg := range args {
		w.walk(arg, known)
	}
}

// guarding is what is known where e is true and is there to say so: what e itself
// reads unguarded is no guard of what stands before it.
func guarding(e ast.Expr) facts {
	all := whenTrue(e)
	for _, path := range strictly(e) {
		delete(all, path)
	}
	return all
}

// read looks at a path that must exist.
func (w *guardWalk) read(e ast.Expr, known facts) {
	path := pathOf(e)
	if path == "" {
		switch e.Kind() { // something else stands before it
		case ast.SelectKind:
			w.walk(e.AsSelect().Operand(), known)
		case ast.CallKind:
			if args := e.AsCall().Args(); e.AsCall().FunctionName() == operators.Index {
				w.walk(args[0], known)
				w.walk(args[1], known)
			} else {
				w.call(e, known)
			}
		default:
			w.walk(e, known)
		}
		return
	}
	for _, name := range []string{"prev", "last"} {
		if of := "event." + name; (path == of || strings.HasPrefix(path, of+".")) && !known["event.prev"] && !known[of] && w.previous == nil {
			w.previous, w.previousName = e, name
		}
	}
	_, field, ok := strings.Cut(path, ".json")
	if ok && field != "" && !known[path] && w.field == nil {
		w.field = e
	}
}

// literals finds comparisons of fields of JSON with literals that look like
// another type, or with literals of several types.
func (n *linter) literals(r *rule) {
	kinds := map[string]types.Kind{}
	for _, x := range r.expressions() {
		ast.PreOrderVisit(x.checked.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
			path, literal, ok := comparison(e)
			if !ok || !strings.Contains(path, ".json") {
				return
			}
			if literal.kind == types.StringKind && (literal.text == "true" || literal.text == "false" || literal.text == "null") {
				n.report(lintLiteral, x.at(e), "without quotes it is the "+literal.text+" of JSON", "%s: %s is compared with the text %q", x.what, path, literal.text)
			}
			if literal.kind == types.NullTypeKind {
				return
			}
			if before, known := kinds[path]; known && before != literal.kind {
				n.report(lintMixed, x.at(e), "a field of JSON is equal to literals of its own type only", "%s: %s is compared with a %s here, and with a %s before",
					x.what, path, kindName(literal.kind), kindName(before))
			}
			kinds[path] = literal.kind
		}))
	}
}

func kindName(k types.Kind) string {
	switch k {
	case types.DoubleKind:
		return "number"
	case types.BoolKind:
		return "boolean"
	case types.BytesKind:
		return "bytes literal"
	default:
		return "text"
	}
}

// comparison returns the path and the literal that e compares.
func comparison(e ast.Expr) (path string, literal scalar, ok bool) {
	if e.Kind() != ast.CallKind {
		return "", scalar{}, false
	}
	args := e.AsCall().Args()
	switch e.AsCall().FunctionName() {
	case operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		for i, arg := range args {
			if literal, ok := literalOf(arg); ok {
				path := pathOf(args[1-i])
				return path, literal, path != ""
			}
		}
	}
	return "", scalar{}, false
}
