package rules

import (
	"context"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// Tracer evaluates the rules of a set one by one, and shows what each part of
// their expressions came to. What it says of the outcome comes from the set
// itself; the parts come from programs of its own, so that [Set.Evaluate] pays
// nothing for it. It is for one goroutine.
type Tracer struct {
	set     *Set
	env     *environment
	source  Source
	watched map[*expression]*watched
}

// Tracer returns a tracer for s. Delivery ids belong to source.
func (s *Set) Tracer(source Source) (*Tracer, error) {
	env, err := newEnvironment(cel.EnableMacroCallTracking())
	if err != nil {
		return nil, err
	}
	return &Tracer{set: s, env: env, source: source, watched: make(map[*expression]*watched)}, nil
}

// Trace is what one rule made of an event.
type Trace struct {
	Event   *keyhook.Event // the first, where the rule takes those of a revision together
	Rule    RuleInfo
	Pattern string // of the rule's keys, the first that matches
	Params  []TracedParam
	Matched bool
	// Err is why the condition has no value; nil otherwise.
	Err error
	// When is the condition; nil if there is none.
	When       *Step
	Vars       []TracedVariable // that were needed, in the order of the rule
	Deliveries []*keyhook.Delivery
}

// TracedParam is a capture with what it took from the key.
type TracedParam struct{ Name, Value string }

// TracedVariable is a variable with how it came to its value.
type TracedVariable struct {
	Name string
	Step *Step
}

// Step is an expression, or a part of one, and what it came to.
type Step struct {
	Text      string
	Position  strictyaml.Position
	Evaluated bool   // false where the value of something else was enough
	Value     string // as JSON, cut off where it is long
	Err       string // in place of a value
	// Decisive marks the parts that the value of the whole follows from.
	Decisive bool
	Parts    []*Step
}

// Trace returns what the rules made of the changes of one revision: of each
// change, in order, those whose keys match, in the order of the rules. Rules that
// take the changes of a revision together stand with the first of a group. Rules
// that are not in it look at other keys.
func (t *Tracer) Trace(events []*keyhook.Event) ([]Trace, error) {
	var all []Trace
	for i, ev := range events {
		for _, r := range t.set.rules {
			p := r.patternOf(ev.Key)
			if p == nil {
				continue
			}
			err := t.with(r, p, events[i:], func(st *state) error {
				tr, err := t.trace(st, r, p)
				if err == nil {
					all = append(all, tr)
				}
				return err
			}, i > 0 && t.joins(r, events[:i], ev))
			if err != nil {
				return nil, fmt.Errorf("rule %q: %w", r.name, err)
			}
		}
	}
	return all, nil
}

// joins reports whether ev belongs to a group that one of those before it began.
func (t *Tracer) joins(r *rule, before []*keyhook.Event, ev *keyhook.Event) bool {
	if !r.grouped || ev.Synthetic {
		return false
	}
	per := t.perOf(r, ev)
	for _, b := range before {
		if !b.Synthetic && r.patternOf(b.Key) != nil && t.perOf(r, b) == per {
			return true
		}
	}
	return false
}

// perOf returns what divides the groups of a rule; "" where nothing does, or it
// fails.
func (t *Tracer) perOf(r *rule, ev *keyhook.Event) string {
	if r.per == nil {
		return ""
	}
	st := t.set.states.get(t.source, ev, t.set.budget)
	defer t.set.states.put(st)
	st.enter(r, r.patternOf(ev.Key))
	per, failed := r.perOf(st)
	if failed != nil {
		return ""
	}
	return string(per)
}

// with calls f with the state of the first of events, and of its group where the
// rule takes one, unless it is part of one that was there before.
func (t *Tracer) with(r *rule, p *pattern, events []*keyhook.Event, f func(*state) error, joined bool) error {
	if joined {
		return nil
	}
	ev := events[0]
	st := t.set.states.get(t.source, ev, t.set.budget)
	defer t.set.states.put(st)
	st.enter(r, p)
	if !r.grouped || ev.Synthetic {
		return f(st)
	}
	per := t.perOf(r, ev)
	members := []*state{st}
	defer func() {
		for _, m := range members[1:] {
			t.set.states.put(m)
		}
	}()
	for _, other := range events[1:] {
		q := r.patternOf(other.Key)
		if q == nil || other.Synthetic || t.perOf(r, other) != per {
			continue
		}
		m := t.set.states.get(t.source, other, t.set.budget)
		m.enter(r, q)
		members = append(members, m)
	}
	st.members, st.per = members, types.String(per)
	return f(st)
}

func (t *Tracer) trace(st *state, r *rule, p *pattern) (Trace, error) {
	tr := Trace{Event: st.event, Rule: r.info(), Pattern: p.source}
	for i, name := range r.captures {
		v, err := st.param(i)
		if err != nil {
			v = types.String(err.Error())
		}
		tr.Params = append(tr.Params, TracedParam{Name: name, Value: fmt.Sprint(v.Value())})
	}

	var res Result
	r.evaluate(st, &res)
	tr.Matched = len(res.Matches) > 0
	for _, e := range res.Errors {
		tr.Err = e.Err
	}
	for _, d := range res.Deliveries {
		switch {
		case d.Cancels:
		case d.Rejected != nil && !tr.Matched:
			// A limit or a panic: to evaluate it once more would lead to the same.
			tr.Err = fmt.Errorf("%s: %s", d.Rejected.Reason, d.Rejected.Error)
			tr.Deliveries = append(tr.Deliveries, d)
		default:
			tr.Deliveries = append(tr.Deliveries, d)
		}
	}
	if !tr.Matched && len(tr.Deliveries) > 0 {
		return tr, nil
	}
	err := t.steps(st, r, &tr)
	return tr, err
}

// steps evaluates once more what was evaluated, in parts.
func (t *Tracer) steps(st *state, r *rule, tr *Trace) error {
	t.env.scope = &scope{captures: r.captures, vars: r.vars, grouped: r.grouped}
	needed := make([]bool, len(r.vars))
	for i := range r.vars {
		needed[i] = st.variables[i].value != nil || st.variables[i].failure != nil
	}
	for i, v := range r.vars {
		if !needed[i] || v.expr == nil {
			continue
		}
		step, err := t.step(st, v.expr)
		if err != nil {
			return err
		}
		tr.Vars = append(tr.Vars, TracedVariable{Name: v.name, Step: step})
	}
	if r.when != nil {
		step, err := t.step(st, r.when)
		if err != nil {
			return err
		}
		tr.When = step
	}
	if !tr.Matched {
		return nil
	}
	for _, s := range r.sends {
		for _, x := range s.expressions() {
			if _, err := t.step(st, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// expressions returns those of a message.
func (s *send) expressions() []*expression {
	var all []*expression
	if s.body != nil {
		all = append(all, s.body)
	}
	for _, h := range s.headers {
		all = append(all, h.value)
	}
	if s.subject != nil {
		all = append(all, s.subject)
	}
	return all
}

// step evaluates x in parts.
func (t *Tracer) step(st *state, x *expression) (*Step, error) {
	w, err := t.watch(x)
	if err != nil {
		return nil, err
	}
	return w.eval(st, x), nil
}

// watch returns the program that shows the parts of x. The scope is that of its
// rule.
func (t *Tracer) watch(x *expression) (*watched, error) {
	if w := t.watched[x]; w != nil {
		return w, nil
	}
	checked, issues := t.env.Compile(x.source.Value)
	if issues.Err() != nil {
		return nil, fmt.Errorf("%s: %w", x.what, issues.Err())
	}
	w := &watched{root: outline(x.source, checked.NativeRep()), seen: make(map[int64]*seen)}
	var err error
	w.program, err = t.env.Program(checked, cel.CustomDecoratorV2(w.decorate), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.what, err)
	}
	t.watched[x] = w
	return w, nil
}

// traceDeadline ends what is only shown. What decides has limits of its own.
const traceDeadline = 10 * time.Second

// watched is a program that notes the values of its parts.
type watched struct {
	program cel.Program
	root    *part
	seen    map[int64]*seen
}

// seen are the values of one part.
type seen struct {
	last ref.Val // of this evaluation, nil if there was none
	// over all evaluations
	isTrue, isFalse bool
}

func (w *watched) eval(st *state, x *expression) *Step {
	for _, s := range w.seen {
		s.last = nil
	}
	vars := &st.plain
	if x.timed {
		vars = &st.timed
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceDeadline)
	defer cancel()
	v, _, err := w.program.ContextEval(ctx, vars)
	if v != nil {
		w.note(w.root.id, v)
	}
	s := w.steps(w.root)
	if err != nil && s.Err == "" {
		s.Evaluated, s.Err = true, err.Error()
	}
	decide(w.root, s)
	return s
}

func (w *watched) note(id int64, v ref.Val) {
	s := w.seen[id]
	if s == nil {
		s = &seen{}
		w.seen[id] = s
	}
	s.last = v
	s.isTrue = s.isTrue || v == types.True
	s.isFalse = s.isFalse || v == types.False
}

func (w *watched) steps(p *part) *Step {
	s := &Step{Text: p.text, Position: p.at}
	if p.literal {
		s.Evaluated, s.Value = true, p.text
	}
	if seen := w.seen[p.id]; seen != nil && seen.last != nil {
		s.Evaluated = true
		if types.IsUnknownOrError(seen.last) {
			s.Err = fmt.Sprint(seen.last)
		} else {
			s.Value = display(seen.last)
		}
	}
	inner := p.parts
	if p.op == opMacro { // the rest has many values
		inner = inner[:p.once]
	}
	if !s.Evaluated {
		return s
	}
	for _, q := range inner {
		s.Parts = append(s.Parts, w.steps(q))
	}
	return s
}

// decide marks what the value of s follows from.
func decide(p *part, s *Step) {
	s.Decisive = true
	if len(s.Parts) == 0 {
		return
	}
	switch p.op {
	case opAnd, opOr:
		enough := "false"
		if p.op == opOr {
			enough = "true"
		}
		for i, inner := range s.Parts {
			if s.Value == enough && inner.Value == enough || s.Err != "" && inner.Err != "" {
				decide(p.parts[i], inner)
				return
			}
		}
		for i, inner := range s.Parts {
			decide(p.parts[i], inner)
		}
	case opNot:
		decide(p.parts[0], s.Parts[0])
	case opChoice:
		decide(p.parts[0], s.Parts[0])
		switch s.Parts[0].Value {
		case "true":
			decide(p.parts[1], s.Parts[1])
		case "false":
			decide(p.parts[2], s.Parts[2])
		}
	default:
	}
}

const maxDisplay = 2000 // bytes of a value that is shown

// display writes a value as JSON, near enough for people.
func display(v ref.Val) string {
	if o, ok := v.(*types.Optional); ok && !o.HasValue() {
		return "optional.none()"
	}
	b, err := appendJSON(nil, v)
	if err != nil {
		return fmt.Sprintf("(a %s)", v.Type().TypeName())
	}
	if len(b) > maxDisplay {
		return string(b[:maxDisplay]) + "…"
	}
	return string(b)
}

// decorate makes each step of a program tell its value.
func (w *watched) decorate(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch step := i.(type) {
	case interpreter.InterpretableConst, interpreter.InterpretableConstructor:
		return i, nil // other steps look for these
	case interpreter.InterpretableAttribute:
		return &watchedAttribute{InterpretableAttribute: step, w: w}, nil
	default:
		return &watchedStep{InterpretableV2: i, w: w}, nil
	}
}

type watchedStep struct {
	interpreter.InterpretableV2
	w *watched
}

// Exec implements [interpreter.InterpretableV2].
func (s *watchedStep) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := s.InterpretableV2.Exec(frame)
	s.w.note(s.ID(), v)
	return v
}

// Eval implements [interpreter.Interpretable].
func (s *watchedStep) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, s.Exec)
}

// watchedAttribute is a step that the planner goes on building: a.b.c begins as
// a.
type watchedAttribute struct {
	interpreter.InterpretableAttribute
	w *watched
}

// AddQualifier implements [interpreter.InterpretableAttribute].
func (a *watchedAttribute) AddQualifier(q interpreter.Qualifier) (interpreter.Attribute, error) {
	_, err := a.InterpretableAttribute.AddQualifier(q)
	return a, err
}

// Exec implements [interpreter.InterpretableV2].
func (a *watchedAttribute) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := a.InterpretableAttribute.Exec(frame)
	a.w.note(a.ID(), v)
	return v
}

// Eval implements [interpreter.Interpretable].
func (a *watchedAttribute) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, a.Exec)
}
