package rules

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"

	"keyhook/internal/strictyaml"
)

// kind is where an expression stands, which decides what it may be and use.
type kind uint8

const (
	kindCondition kind = iota
	kindVariable
	kindBody
	kindHeader
	kindSubject
	kindPer
)

// mayUseTime reports whether event.time is for expressions of kind k. What
// decides whether and where a change is sent must come out the same when the
// change is read again after a crash.
func (k kind) mayUseTime() bool { return k == kindBody || k == kindHeader || k == kindVariable }

// compiler compiles the expressions of one rule after the other.
type compiler struct {
	env     *environment
	planner *planner
	known   []string // names that an expression can begin with
	cache   map[string]compiled
	keep    bool // what was checked
	// previous are the expressions of an earlier set; it is only read.
	previous map[string]compiled
}

func newCompiler(planner *planner, extra ...cel.EnvOption) (*compiler, error) {
	env, err := newEnvironment(extra...)
	if err != nil {
		return nil, err
	}
	return &compiler{env: env, planner: planner, known: env.names(), cache: map[string]compiled{}}, nil
}

// compile checks and plans one expression of the rule whose scope is set.
func (c *compiler) compile(what string, k kind, source strictyaml.Text, scopeKey string) (*expression, strictyaml.Problems) {
	x := &expression{what: what, kind: k, source: source}
	if strings.TrimSpace(source.Value) == "" {
		return nil, strictyaml.Problems{source.Position.Problemf("%s: the expression is empty", what)}
	}
	key := fmt.Sprintf("%d\x00%s\x00%s", k, scopeKey, source.Value)
	found, ok := c.cache[key]
	if !ok {
		found, ok = c.previous[key]
	}
	if ok {
		x.compiled, c.cache[key] = found, found
		return x, nil
	}
	checked, issues := c.env.Compile(source.Value)
	if issues.Err() != nil {
		return nil, c.problems(what, k, source, issues)
	}
	p := &inspector{c: c, what: what, kind: k, source: source, ast: checked.NativeRep()}
	p.inspect()
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	x.typ, x.timed = checked.OutputType(), p.timed
	if problem, ok := x.checkType(k); !ok {
		return nil, strictyaml.Problems{problem}
	}
	x.tier = c.tierOf(k, checked, p)
	var err error
	if x.plan, err = c.planner.plan(c.env, checked, source.Value, x.tier, p.instructions); err != nil {
		return nil, strictyaml.Problems{source.Position.Problemf("%s: %s", what, err)}
	}
	if k == kindCondition {
		x.only = predicateOf(checked.NativeRep(), x.tier != nil || p.variables)
	}
	if c.keep {
		x.checked = checked.NativeRep()
	}
	c.cache[key] = x.compiled
	return x, nil
}

// attribute compiles a part of a condition of a rule; nil if it is not plain.
func (c *compiler) attribute(text string, of *rule) *expression {
	c.env.scope = &scope{captures: of.captures}
	x, problems := c.compile("index", kindVariable, strictyaml.NewText(text), scopeKey(c.env.scope))
	if len(problems) > 0 || x.tier != nil {
		return nil
	}
	return x
}

// tierOf decides how an expression is bounded.
func (c *compiler) tierOf(k kind, checked *cel.Ast, p *inspector) *tier {
	measured := &conditionTier
	switch k {
	case kindBody, kindHeader, kindSubject:
		measured = &messageTier
	default:
	}
	if plain(checked.NativeRep(), int(measured.memory)) {
		return nil
	}
	if measured == &messageTier {
		return measured
	}
	if p.unbounded {
		return &conditionTier
	}
	estimate, err := c.env.EstimateCost(checked, estimator{})
	if err != nil || estimate.Max > maxEstimate {
		return &conditionTier
	}
	return nil
}

// checkType reports whether the type of x is one that its place can use.
func (x *expression) checkType(k kind) (strictyaml.Problem, bool) {
	wrong := func(want, hint string) (strictyaml.Problem, bool) {
		return x.source.Position.Problemf("%s must be %s, but its type is %s", x.what, want, typeName(x.typ)).WithHint(hint), false
	}
	if x.typ.Kind() == types.ErrorKind { // of a variable with a mistake
		return strictyaml.Problem{}, true
	}
	switch k {
	case kindCondition:
		if x.typ.IsExactType(types.BoolType) {
			break
		}
		if x.typ.Kind() == types.DynKind {
			return wrong("a bool", "compare it: == true")
		}
		return wrong("a bool", "")
	case kindHeader, kindSubject, kindPer:
		if kind := x.typ.Kind(); kind != types.StringKind && kind != types.DynKind {
			return wrong("a string", "convert it: string(...)")
		}
	case kindBody:
		switch x.typ.Kind() {
		case types.TypeKind:
			return wrong("a string, a map or a list", "")
		case types.OpaqueKind:
			return wrong("a string, a map or a list", "give it a default: .orValue(...)")
		default:
		}
	}
	return strictyaml.Problem{}, true
}

func typeName(t *types.Type) string {
	switch s := cel.FormatCELType(t); s {
	case "dyn":
		return "dyn (known at run time only)"
	default:
		return s
	}
}

// inspector looks at a checked expression for what CEL allows and we do not.
type inspector struct {
	c         *compiler
	what      string
	kind      kind
	source    strictyaml.Text
	ast       *ast.AST
	problems  strictyaml.Problems
	timed     bool
	variables bool // whether it reads vars
	unbounded bool // its cost cannot be estimated from the sizes of the inputs
	// instructions are those of its largest regular expression.
	instructions uint64
}

func (p *inspector) inspect() {
	ast.PreOrderVisit(p.ast.Expr(), ast.NewExprVisitor(p.visit))
	freeNames(p.ast.Expr(), nil, func(e ast.Expr) {
		if hint, ok := p.c.env.scope.has(e.AsIdent()); !ok {
			p.problem(e.ID(), hint, "%s is not known here", e.AsIdent())
		}
	})
}

func (p *inspector) visit(e ast.Expr) {
	switch e.Kind() {
	case ast.StructKind:
		p.problem(e.ID(), "", "objects such as %s{} cannot be made here", e.AsStruct().TypeName())
	case ast.ComprehensionKind:
		p.unbounded = true
	case ast.IdentKind:
		p.variables = p.variables || e.AsIdent() == nameVars
	case ast.SelectKind:
		p.selected(e.ID(), e.AsSelect().Operand(), e.AsSelect().FieldName())
	case ast.CallKind:
		p.called(e)
	default:
	}
}

func (p *inspector) called(e ast.Expr) {
	call := e.AsCall()
	args := call.Args()
	switch call.FunctionName() {
	case operators.OptSelect:
		if len(args) == 2 && args[1].Kind() == ast.LiteralKind {
			if name, ok := args[1].AsLiteral().Value().(string); ok {
				p.selected(e.ID(), args[0], name)
			}
		}
	case operators.Add:
		if len(p.ast.GetOverloadIDs(e.ID())) != 1 { // which is not known before it runs
			p.unbounded = true
		}
	case operators.In:
		// The library looks such a value up in a hash table, where it has no place.
		if p.isBytes(args[0]) && args[1].Kind() == ast.ListKind && !p.isBytes(args[1].AsList().Elements()...) {
			p.problem(e.ID(), `write b"..." for the elements`, "bytes are equal to bytes only")
		}
	case functionChanged, functionChangedExcept:
		if t := p.ast.GetType(args[0].ID()); t == nil || t.TypeName() != eventType.TypeName() {
			p.problem(args[0].ID(), `name the way there: event.changed("spec.nodes")`, "only an event can be asked for what has changed")
		}
	case overloads.Matches:
		if len(args) > 0 {
			p.pattern(args[len(args)-1])
		}
	case "regex.replace", "regex.extract", "regex.extractAll":
		if len(args) > 1 {
			p.pattern(args[1])
		}
	}
}

// isBytes reports whether all expressions are known to be bytes.
func (p *inspector) isBytes(all ...ast.Expr) bool {
	for _, e := range all {
		if t := p.ast.GetType(e.ID()); t == nil || t.Kind() != types.BytesKind {
			return false
		}
	}
	return true
}

func (p *inspector) pattern(arg ast.Expr) {
	if arg.Kind() == ast.LiteralKind {
		if pattern, ok := arg.AsLiteral().(types.String); ok {
			p.instructions = max(p.instructions, patternSize(string(pattern)))
		}
		return
	}
	p.problem(arg.ID(), "a pattern that comes from elsewhere would be compiled again for each event",
		"a regular expression must be a literal string")
}

// selected notes the use of event.time, also through a variable.
func (p *inspector) selected(id int64, operand ast.Expr, name string) {
	t := p.ast.GetType(operand.ID())
	if t == nil {
		return
	}
	if t.Kind() == types.OpaqueKind && len(t.Parameters()) == 1 {
		t = t.Parameters()[0] // optional
	}
	through := ""
	switch {
	case t.TypeName() == eventType.TypeName() && name == nameTime:
	case t.TypeName() == varsType.TypeName() && p.c.usesTime(name):
		through = fmt.Sprintf(", and vars.%s uses it", name)
	default:
		return
	}
	p.timed = true
	if !p.kind.mayUseTime() {
		at := p.ast.SourceInfo().GetStartLocation(id)
		column, _ := fieldAt(p.source, at.Line(), at.Column(), name)
		p.report(at.Line(), column, "the time differs when a change is read again after a crash, so nothing may be decided by it",
			"event.time can be used in bodies and headers only%s", through)
	}
}

func (c *compiler) usesTime(name string) bool {
	for _, v := range c.env.scope.vars {
		if v.name == name && v.expr != nil {
			return v.expr.timed
		}
	}
	return false
}

func (p *inspector) problem(id int64, hint, format string, args ...any) {
	at := p.ast.SourceInfo().GetStartLocation(id)
	p.report(at.Line(), at.Column(), hint, format, args...)
}

func (p *inspector) report(line, column int, hint, format string, args ...any) {
	place, _ := p.source.Locate(line, column)
	p.problems.Add(place, hint, "%s: %s", p.what, fmt.Sprintf(format, args...))
}
