package rules

import (
	"cmp"
	"fmt"

	"cel.dev/cel-go/common/types"

	"keyhook"
)

// Evaluate adds to res what ev owes: a delivery for each send of each rule that
// matches, in the order of the rules, and the conditions that failed. Messages
// are rendered. Rules that take the changes of a revision together are left to
// [Set.EvaluateBatch]; rules that wait also add cancellations. It keeps nothing
// but what is in res, and may be called from several goroutines at once, each
// with a res of its own.
func (s *Set) Evaluate(source Source, ev *keyhook.Event, res *Result) {
	st := s.states.get(source, ev, s.budget)
	st.groups = s.index.find(ev.Key, st.groups)
	for _, g := range st.groups {
		st.candidates = g.find(st, st.candidates)
	}
	order(st.candidates)
	last := -1
	for _, c := range st.candidates {
		if c.rule == last {
			continue // another pattern of the rule has matched already
		}
		last = c.rule
		r := s.rules[c.rule]
		st.enter(r, r.patterns[c.pattern])
		r.evaluate(st, res)
	}
	s.states.put(st)
}

// evaluate decides whether r matches, and renders its messages. Where the rule
// waits for its condition to hold, a change for which it does not is news as well.
func (r *rule) evaluate(st *state, res *Result) {
	matched, failed := r.matches(st)
	switch {
	case failed == nil && matched:
		res.Matches = append(res.Matches, Match{Rule: r.name})
		chain, failed := r.chain(st)
		if failed != nil {
			r.reject(st, failed, nil, res)
			return
		}
		for _, s := range r.sends {
			res.Deliveries = append(res.Deliveries, r.deliver(st, s, chain))
		}
	case failed != nil && failed.reason != "":
		chain := []byte(nil)
		if r.grouped {
			chain = []byte(wholeRevision)
		}
		r.reject(st, failed, chain, res)
	default:
		if failed != nil {
			res.Errors = append(res.Errors, EvalError{Rule: r.name, Err: failed, Event: st.event})
		}
		if r.timing.For > 0 {
			r.cancel(st, res)
		}
	}
}

// reject adds a delivery without a message for each send.
func (r *rule) reject(st *state, failed *failure, chain []byte, res *Result) {
	for _, s := range r.sends {
		d := r.delivery(st, s, chain)
		d.Rejected = failed.rejection()
		res.Deliveries = append(res.Deliveries, d)
	}
}

// rejection is why there is no message: an error in an expression, or what ended
// it.
func (f *failure) rejection() *keyhook.Rejection {
	return &keyhook.Rejection{Reason: cmp.Or(f.reason, keyhook.ReasonRender), Error: f.Error()}
}

// cancel adds the news that the condition does not hold.
func (r *rule) cancel(st *state, res *Result) {
	for _, s := range r.sends {
		res.Deliveries = append(res.Deliveries, &keyhook.Delivery{
			Rule: r.name, Send: s.name, Sink: s.sink, Order: r.order, OnFailure: r.onFailure, Event: st.event, Cancels: true,
		})
	}
}

// matches evaluates the condition.
func (r *rule) matches(st *state) (matched bool, failed *failure) {
	if r.when == nil {
		return true, nil
	}
	defer func() {
		if p := recover(); p != nil {
			matched, failed = false, panicked(r.when, p)
		}
	}()
	v, failed := r.when.eval(st, false)
	if st.limit != nil {
		return false, st.limit
	}
	if failed != nil {
		return false, failed
	}
	return v == types.True, nil
}

// panicked turns a panic outside of CEL, which recovers its own, into a failure.
func panicked(x *expression, p any) *failure {
	return &failure{reason: keyhook.ReasonPanic, expr: x, text: fmt.Sprintf("panic: %v", p)}
}

// delivery returns the delivery of a send without a message.
func (r *rule) delivery(st *state, s *send, chain []byte) *keyhook.Delivery {
	return &keyhook.Delivery{
		ID:        keyhook.DeliveryID(st.source.Name, st.source.Epoch, st.event, r.name, s.name),
		Rule:      r.name,
		Send:      s.name,
		Sink:      s.sink,
		Order:     r.order,
		OnFailure: r.onFailure,
		Chain:     chain,
		Timing:    r.timing,
		Event:     st.event,
		Group:     st.group(),
	}
}

// deliver returns the delivery of a send with its message, or why there is none.
func (r *rule) deliver(st *state, s *send, chain []byte) *keyhook.Delivery {
	d := r.delivery(st, s, chain)
	if failed := s.render(st, d); failed != nil {
		d.Message = keyhook.Message{}
		d.Rejected = failed.rejection()
	}
	return d
}
