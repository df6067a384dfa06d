package rules

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyhook"
)

// EvaluateBatch yields the events of a batch, in order. While one is yielded, res
// holds what it owes, and nothing else: as [Set.Evaluate] has it and, behind that,
// what the rules owe that take the changes of a revision together, which stands
// with the first change of its group. A revision that lies in two batches comes
// to two groups; a synthetic change is a group by itself.
func (s *Set) EvaluateBatch(source Source, events []*keyhook.Event, res *Result) iter.Seq[*keyhook.Event] {
	return func(yield func(*keyhook.Event) bool) {
		groups := s.groups(source, events)
		for _, ev := range events {
			res.Reset()
			s.Evaluate(source, ev, res)
			res.add(groups[ev])
			if !yield(ev) {
				return
			}
		}
	}
}

// groupResults are what groups came to, by their first changes.
type groupResults map[*keyhook.Event]*Result

// of returns where what a group comes to is put.
func (g groupResults) of(first *state) *Result {
	res := g[first.event]
	if res == nil {
		res = &Result{}
		g[first.event] = res
	}
	return res
}

// groups evaluates the rules that take the changes of a revision together.
func (s *Set) groups(source Source, events []*keyhook.Event) groupResults {
	if s.together == nil {
		return nil
	}
	into := groupResults{}
	for from := 0; from < len(events); {
		to := from + 1
		for to < len(events) && !events[from].Synthetic && !events[to].Synthetic && events[to].Revision == events[from].Revision {
			to++
		}
		s.evaluateRevision(source, events[from:to], into)
		from = to
	}
	return into
}

// evaluateRevision takes the changes of one revision.
func (s *Set) evaluateRevision(source Source, events []*keyhook.Event, into groupResults) {
	of := map[int][]*keyhook.Event{} // rules
	var groups []*group
	for _, ev := range events {
		groups = s.together.find(ev.Key, groups[:0])
		for _, g := range groups {
			for _, c := range g.all {
				if n := len(of[c.rule]); n == 0 || of[c.rule][n-1] != ev {
					of[c.rule] = append(of[c.rule], ev)
				}
			}
		}
	}
	for _, i := range slices.Sorted(maps.Keys(of)) {
		s.evaluateGroups(source, s.rules[i], of[i], into)
	}
}

// evaluateGroups divides the changes by per, and evaluates the rule for each
// part.
func (s *Set) evaluateGroups(source Source, r *rule, events []*keyhook.Event, into groupResults) {
	members := make([]*state, len(events))
	for i, ev := range events {
		members[i] = s.states.get(source, ev, s.budget)
		members[i].enter(r, r.patternOf(ev.Key))
	}
	defer func() {
		for _, m := range members {
			s.states.put(m)
		}
	}()
	var order []types.String
	parts := map[types.String][]*state{}
	for _, m := range members {
		if r.per != nil {
			var failed *failure
			if m.per, failed = r.perOf(m); failed != nil {
				members[0].members = members
				r.reject(members[0], failed, []byte(wholeRevision), into.of(members[0]))
				return
			}
		}
		if parts[m.per] == nil {
			order = append(order, m.per)
		}
		parts[m.per] = append(parts[m.per], m)
	}
	for _, per := range order {
		part := parts[per]
		first := part[0]
		first.enter(r, first.pattern) // with a budget for the whole
		first.members = part
		r.evaluate(first, into.of(first))
	}
}

// gather makes the changes of a group that was delivered before those of st,
// which is its first one. The caller releases them.
func (s *Set) gather(st *state, d *keyhook.Delivery) (release func()) {
	if per, ok := bytes.CutPrefix(d.Chain, []byte(perChain)); ok {
		st.per = types.String(per)
	}
	members := []*state{st}
	for _, ev := range d.Group[min(1, len(d.Group)):] {
		m := s.states.get(st.source, ev, s.budget)
		m.enter(st.rule, st.rule.patternOf(ev.Key))
		members = append(members, m)
	}
	st.members = members
	return func() {
		for _, m := range members[1:] {
			s.states.put(m)
		}
	}
}

// group returns the changes that st is about; nil if it is one by itself.
func (st *state) group() []*keyhook.Event {
	if !st.rule.grouped {
		return nil
	}
	if st.members == nil {
		return []*keyhook.Event{st.event}
	}
	events := make([]*keyhook.Event, len(st.members))
	for i, m := range st.members {
		events[i] = m.event
	}
	return events
}

// events returns the changes that st is about as expressions see them.
func (st *state) events(timed bool) ref.Val {
	members := st.members
	if members == nil {
		members = []*state{st}
	}
	all := make([]ref.Val, len(members))
	for i, m := range members {
		if all[i] = &m.plain.event; timed {
			all[i] = &m.timed.event
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, all)
}
