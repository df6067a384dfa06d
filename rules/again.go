package rules

import (
	"errors"
	"fmt"

	"keyhook"
)

// Again returns what the rules of s make of a delivery that was given up: the
// send of the same names renders its message anew from the event, for the sink
// that it names today, under the id that d has. That the rule matched was
// decided then, and is asked again only where it could not be decided: where the
// condition may have been what exceeded a limit.
//
// The error says why there is no such message. d is left as it is.
func (s *Set) Again(source Source, d *keyhook.Delivery) (*keyhook.Delivery, error) {
	if d.Event.Occurrence == gapOccurrence {
		return nil, errors.New("it tells of a gap in the history, which no rule renders")
	}
	r, p, err := s.ruleOf(d)
	if err != nil {
		return nil, err
	}
	send := r.sendNamed(d.Send)
	if send == nil {
		return nil, fmt.Errorf("the rule %q has no send %q any more", d.Rule, d.Send)
	}
	st := s.states.get(source, d.Event, s.budget)
	defer s.states.put(st)
	st.enter(r, p)
	if r.grouped {
		defer s.gather(st, d)()
	}
	if undecided(d) {
		switch matched, failed := r.matches(st); {
		case failed != nil:
			return nil, failed
		case !matched:
			return nil, fmt.Errorf("the condition of the rule %q does not hold for it", d.Rule)
		}
	}
	again := r.delivery(st, send, d.Chain)
	again.ID, again.Group, again.Admitted = d.ID, d.Group, d.Admitted
	if failed := send.render(st, again); failed != nil {
		return nil, failed
	}
	return again, nil
}

// undecided reports whether it is not known that the rule matched: a rejection
// for another reason than a failed message may come from the condition.
func undecided(d *keyhook.Delivery) bool {
	return d.Rejected != nil && d.Rejected.Reason != keyhook.ReasonRender
}

// ruleOf returns the rule that d is of, and the pattern that takes its key.
func (s *Set) ruleOf(d *keyhook.Delivery) (*rule, *pattern, error) {
	r := s.ruleNamed(d.Rule)
	if r == nil {
		return nil, nil, fmt.Errorf("there is no rule %q any more", d.Rule)
	}
	p := r.patternOf(d.Event.Key)
	if p == nil {
		return nil, nil, fmt.Errorf("the rule %q does not take its key any more", d.Rule)
	}
	return r, p, nil
}

func (r *rule) sendNamed(name string) *send {
	for _, s := range r.sends {
		if s.name == name {
			return s
		}
	}
	return nil
}
