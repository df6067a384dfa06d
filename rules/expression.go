package rules

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// expression is compiled CEL with its place.
type expression struct {
	what   string // "when", "body", `header "X"`
	kind   kind
	source strictyaml.Text
	compiled
}

// compiled is what expressions of the same text and scope share.
type compiled struct {
	typ   *types.Type
	tier  *tier // nil: the program is cheap whatever the event, and not measured
	timed bool  // it needs event.time, itself or through a variable
	// only is what an event must have for a condition to be true, or to fail;
	// nil if nothing is known.
	only *predicate
	// checked is kept for a closer look only.
	checked *ast.AST
	*plan
}

// variable is a named expression, evaluated when it is first used.
type variable struct {
	name string
	expr *expression // nil while it cannot be used
}

// failure is why an expression gave no value.
type failure struct {
	reason keyhook.Reason // "" for an ordinary error, such as a missing field
	expr   *expression
	node   int64 // of the expression; 0 if it is not known
	text   string
}

// Error returns the text with the place of what failed before it.
func (f *failure) Error() string {
	p := f.expr.source.Position
	if f.node != 0 && f.expr.plan != nil {
		if line, column := f.expr.locate(f.node); line > 0 {
			p, _ = f.expr.source.Locate(line, column)
		}
	}
	return fmt.Sprintf("%s: %s: %s", p, f.expr.what, f.text)
}

// eval evaluates x. It takes what that cost out of the rule's budget.
func (x *expression) eval(st *state, timed bool) (ref.Val, *failure) {
	vars := &st.plain
	if timed {
		vars = &st.timed
	}
	program, err := x.program()
	if err != nil {
		return nil, &failure{reason: keyhook.ReasonPanic, expr: x, text: err.Error()}
	}
	if x.tier == nil {
		v, _, err := program.Eval(vars)
		if err != nil {
			return nil, x.failed(v, err)
		}
		return v, nil
	}
	if st.budget == 0 {
		return nil, &failure{reason: keyhook.ReasonLimit, expr: x,
			text: "the expressions of the rule before this one have used up what a rule may cost on one event"}
	}
	ctx, cancel := context.WithTimeout(context.Background(), x.tier.deadline)
	defer cancel()
	v, details, err := program.ContextEval(ctx, vars)
	if c := details.ActualCost(); c != nil {
		st.budget -= min(*c, st.budget)
	}
	if err != nil {
		return nil, x.failed(v, err)
	}
	return v, nil
}

// failed tells limits and panics from errors of the expression.
func (x *expression) failed(v ref.Val, err error) *failure {
	f := &failure{expr: x}
	limits := x.tier
	if limits == nil {
		limits = &conditionTier // only a single call can be refused
	}
	var canceled interpreter.EvalCancelledError
	var celErr *types.Err
	switch {
	case errors.As(err, &canceled):
		f.reason = keyhook.ReasonLimit
		switch canceled.Cause {
		case interpreter.CostLimitExceeded:
			f.text = fmt.Sprintf("the expression costs more than %d", limits.cost)
		case interpreter.MemoryLimitExceeded:
			f.text = fmt.Sprintf("the expression makes a value of more than %d bytes", limits.memory)
		default:
			f.text = fmt.Sprintf("the expression ran longer than %s", limits.deadline)
		}
	case errors.Is(err, interpreter.InterruptError{}):
		f.reason = keyhook.ReasonLimit
		f.text = fmt.Sprintf("the expression ran longer than %s", limits.deadline)
	case v == nil: // an evaluation that ends with an error has it as its value
		f.reason = keyhook.ReasonPanic
		f.text = err.Error()
	default:
		f.text = err.Error()
		if errors.As(err, &celErr) {
			f.node = celErr.NodeID()
		}
	}
	return f
}
