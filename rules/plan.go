package rules

import (
	"fmt"
	"sync"
	"sync/atomic"

	"cel.dev/cel-go/cel"
)

// plan is how an expression is evaluated. One that is measured takes twenty
// kilobytes, so it is kept as text until it is needed: that it can be planned is
// known since it was loaded.
type plan struct {
	planner      *planner
	text         string
	scope        *scope
	tier         *tier
	instructions uint64

	planned atomic.Pointer[cel.Program]
	failed  atomic.Pointer[error]
	places  atomic.Pointer[placesOf]
}

// placesOf finds the places of an expression's parts in its text.
type placesOf func(node int64) (line, column int)

// planner plans expressions after they were loaded. It may be used by several
// goroutines.
type planner struct {
	mu      sync.Mutex
	options []cel.EnvOption
	env     *environment // made when it is first needed
}

// plan returns the plan of a checked expression. Its error is one of the
// expression.
func (pl *planner) plan(env *environment, checked *cel.Ast, text string, t *tier, instructions uint64) (*plan, error) {
	program, err := env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, err
	}
	p := &plan{planner: pl, text: text, scope: env.scope, tier: t, instructions: instructions}
	if t == nil {
		p.planned.Store(&program)
	}
	return p, nil
}

// program returns the program, which is made at the first call.
func (p *plan) program() (cel.Program, error) {
	if program := p.planned.Load(); program != nil {
		return *program, nil
	}
	if err := p.failed.Load(); err != nil {
		return nil, *err
	}
	program, err := p.planner.compile(p)
	if err != nil {
		p.failed.Store(&err)
		return nil, err
	}
	p.planned.Store(&program)
	return program, nil
}

// compile compiles an expression that was compiled before.
func (pl *planner) compile(p *plan) (cel.Program, error) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if program := p.planned.Load(); program != nil {
		return *program, nil
	}
	if err := pl.prepare(); err != nil {
		return nil, err
	}
	pl.env.scope = p.scope
	checked, issues := pl.env.Compile(p.text)
	if err := issues.Err(); err != nil {
		return nil, fmt.Errorf("compiling it once more: %w", err)
	}
	return pl.env.Program(checked, p.tier.programOptions(p.instructions)...)
}

func (pl *planner) prepare() (err error) {
	if pl.env == nil {
		pl.env, err = newEnvironment(pl.options...)
	}
	return err
}

// locate returns the place of a part of the expression in its text: the line
// from 1, the column from 0; 0 if it is not known.
func (p *plan) locate(node int64) (line, column int) {
	if places := p.places.Load(); places != nil {
		return (*places)(node)
	}
	places, ok := p.planner.parse(p.text)
	if !ok {
		return 0, 0
	}
	p.places.Store(&places)
	return places(node)
}

// parse returns the places of a text's parts: nodes are numbered as they are
// read, so that they are the same each time.
func (pl *planner) parse(text string) (placesOf, bool) {
	pl.mu.Lock()
	defer pl.mu.Unlock()
	if pl.prepare() != nil {
		return nil, false
	}
	parsed, issues := pl.env.Parse(text)
	if issues.Err() != nil {
		return nil, false
	}
	info := parsed.NativeRep().SourceInfo()
	return func(node int64) (line, column int) {
		at := info.GetStartLocation(node)
		return at.Line(), at.Column()
	}, true
}
