package rules

import (
	"fmt"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyhook"
)

// state is what one evaluation works with: the event in the form that
// expressions see, and what the rule at hand captured and computed. Expressions
// read it in place, so it is never shared, and is used again for another event.
type state struct {
	event  *keyhook.Event
	source Source

	key, now   content
	prev, last *valueVal
	values     [2]valueVal // where prev and last are kept

	plain, timed activation
	budget       uint64 // what measured expressions may cost still
	allowance    uint64 // what a rule begins with

	rule      *rule
	pattern   *pattern
	per       types.String // what the rule says that a change of a group belongs to
	members   []*state     // the changes of a group, this one included; nil: this one alone
	captured  bool
	spans     []span
	params    []ref.Val
	variables []evaluated
	// limit is the first limit or panic of a variable: it counts even where the
	// expression around it absorbed the error.
	limit *failure

	paramsVal paramsVal
	varsVal   varsVal

	groups     []*group
	candidates []candidate
}

// evaluated is the value of a variable, once it was needed.
type evaluated struct {
	value   ref.Val
	failure *failure
	busy    bool
}

// activation resolves the names of an expression.
type activation struct {
	st    *state
	event eventVal
}

// ResolveName implements [cel.Activation].
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case nameEvent:
		return &a.event, true
	case nameParams:
		return &a.st.paramsVal, true
	case nameVars:
		return &a.st.varsVal, true
	case nameEvents:
		return a.st.events(a.event.timed), true
	case namePer:
		return a.st.per, true
	}
	return nil, false
}

// Parent implements [cel.Activation].
func (*activation) Parent() cel.Activation { return nil }

// statePool keeps states between events.
type statePool struct{ pool sync.Pool }

func newStatePool() *statePool {
	return &statePool{pool: sync.Pool{New: func() any {
		st := &state{}
		st.plain = activation{st: st, event: eventVal{st: st}}
		st.timed = activation{st: st, event: eventVal{st: st, timed: true}}
		st.paramsVal.st, st.varsVal.st = st, st
		return st
	}}}
}

// get returns a state for ev.
func (p *statePool) get(source Source, ev *keyhook.Event, budget uint64) *state {
	st, ok := p.pool.Get().(*state)
	if !ok {
		panic("rules: the pool holds something else") // New makes nothing else
	}
	st.event, st.source, st.allowance = ev, source, budget
	st.key.reset(ev.Key, false)
	st.now.reset(ev.Value, ev.Type == keyhook.Delete)
	st.prev, st.last = nil, nil
	if ev.Prev != nil {
		st.prev = &st.values[0]
		st.prev.reset(ev.Prev)
	}
	switch ev.Last {
	case nil:
	case ev.Prev:
		st.last = st.prev
	default:
		st.last = &st.values[1]
		st.last.reset(ev.Last)
	}
	return st
}

// put takes st back; nothing of the event stays in it.
func (p *statePool) put(st *state) {
	st.event, st.rule, st.pattern, st.limit, st.members, st.per = nil, nil, nil, nil, nil, ""
	st.key, st.now = content{}, content{}
	st.values = [2]valueVal{}
	clear(st.params)
	clear(st.variables)
	st.groups, st.candidates = st.groups[:0], st.candidates[:0]
	p.pool.Put(st)
}

func (v *valueVal) reset(kv *keyhook.KeyValue) {
	v.kv = kv
	v.content.reset(kv.Value, false)
}

// enter prepares st for a rule whose pattern matched.
func (st *state) enter(r *rule, p *pattern) {
	st.rule, st.pattern, st.limit, st.captured = r, p, nil, false
	st.budget = st.allowance // of its own: no rule depends on what others cost
	st.params = resize(st.params, len(r.captures))
	st.variables = resize(st.variables, len(r.vars))
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// param returns what capture number i of the rule took from the key.
func (st *state) param(i int) (ref.Val, error) {
	if v := st.params[i]; v != nil {
		return v, nil
	}
	if st.pattern == nil {
		return nil, fmt.Errorf("the keys of the rule do not take %q", st.event.Key)
	}
	if !st.captured {
		st.captured = true
		st.spans, _ = st.pattern.match(st.event.Key, st.spans[:0])
	}
	name := st.rule.captures[i]
	for j, c := range st.pattern.captures {
		if c.name != name || j >= len(st.spans) {
			continue
		}
		v, err := textOf(st.event.Key[st.spans[j].from:st.spans[j].to], "params."+name)
		if err != nil {
			return nil, err
		}
		st.params[i] = v
		return v, nil
	}
	return nil, fmt.Errorf("no such capture: %s", name)
}

func (st *state) paramNamed(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	for i, n := range st.rule.captures {
		if n != string(name) {
			continue
		}
		v, err := st.param(i)
		if err != nil {
			return types.WrapErr(err)
		}
		return v
	}
	return types.NewErr("no such capture: %s", string(name))
}

// variable returns the value of variable number i of the rule.
func (st *state) variable(i int) (ref.Val, error) {
	v := &st.variables[i]
	if v.value == nil && v.failure == nil {
		x := st.rule.vars[i].expr
		if v.busy {
			return nil, fmt.Errorf("vars.%s needs itself", st.rule.vars[i].name)
		}
		v.busy = true
		v.value, v.failure = x.eval(st, x.timed)
		v.busy = false
		if v.failure != nil && v.failure.reason != "" && st.limit == nil {
			st.limit = v.failure
		}
	}
	if v.failure != nil {
		return nil, v.failure
	}
	return v.value, nil
}

func (st *state) varNamed(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	for i, n := range st.rule.vars {
		if n.name != string(name) {
			continue
		}
		v, err := st.variable(i)
		if err != nil {
			return types.WrapErr(err)
		}
		return v
	}
	return types.NewErr("no such variable: %s", string(name))
}
