package dispatcher

import (
	"maps"
	"slices"
	"strings"

	"keyhook"
	"keyhook/checkpoint"
)

// Rules is what the dispatcher must know of the rules that deliveries come from.
type Rules struct {
	// Sends are all those of all rules: what one that is not there holds back
	// because of its condition is dropped.
	Sends []Send
	// Renamed are the names of today of rules and sinks, by those that they had
	// before: what is owed under the latter is owed under the former. A send that
	// bears the name of its sink is renamed with it.
	RenamedRules, RenamedSinks map[string]string
}

// Send is one message that a rule sends.
type Send struct {
	Rule, Send, Sink string
	Timing           keyhook.Timing
	Keys             []keyhook.Range // that the rule may be about
}

// today returns the name that a lane has now.
func (r *Rules) today(n laneName) laneName {
	if r == nil {
		return n
	}
	if name, ok := r.RenamedRules[n.rule]; ok {
		n.rule = name
	}
	if name, ok := r.RenamedSinks[n.sink]; ok {
		if n.send == n.sink {
			n.send = name
		}
		n.sink = name
	}
	return n
}

func (r *Rules) sinkToday(name string) string {
	if r != nil {
		if today, ok := r.RenamedSinks[name]; ok {
			return today
		}
	}
	return name
}

// instruct tells a lane what the rules say of it.
func (m *machine) instruct(l *lane) {
	if m.rules == nil {
		return
	}
	l.known, l.spans, l.watches = true, keyhook.Timing{}, nil
	if s, ok := m.sends[l.name]; ok {
		l.spans, l.watches = s.Timing, s.Keys
	}
}

// timing returns the spans that count for d.
func (l *lane) timing(d *keyhook.Delivery) keyhook.Timing {
	if l.known {
		return l.spans
	}
	return d.Timing
}

// learn takes over what the rules say; nil: nothing is known of them.
func (m *machine) learn(r *Rules) {
	m.rules = r
	if r == nil {
		return
	}
	m.sends = make(map[laneName]*Send, len(r.Sends))
	for i := range r.Sends {
		s := &r.Sends[i]
		m.sends[laneName{s.Rule, s.Send, s.Sink}] = s
	}
	for _, l := range m.numbers {
		m.instruct(l)
	}
}

// setRules makes what is owed, and what waits, agree with the rules of today.
func (m *machine) setRules(t moment, r *Rules) (renamed map[string]string) {
	if r != nil {
		renamed = m.renameSinks(r)
		m.renameLanes(r)
	}
	m.learn(r)
	if r != nil {
		m.retime(t)
	}
	return renamed
}

// checkpoint returns l as commits name it.
func (l *lane) checkpoint(timed bool) checkpoint.Lane {
	c := checkpoint.Lane{Number: l.number, Rule: l.name.rule, Send: l.name.send, Sink: l.name.sink, Timed: timed}
	if timed {
		c.Number = l.timed
	}
	return c
}

// renameLanes gives lanes the names of today.
func (m *machine) renameLanes(r *Rules) {
	for _, number := range slices.Sorted(maps.Keys(m.numbers)) {
		l := m.numbers[number]
		today := r.today(l.name)
		if today.sink != l.sink.name || today == l.name || m.renameLane(l, today) {
			continue
		}
		// Another lane of that name is owed something. Each keeps its order, and
		// this one its name, as far as its sink goes.
		if today = (laneName{l.name.rule, l.name.send, l.sink.name}); today != l.name {
			m.renameLane(l, today)
		}
	}
}

// renameLane reports false, and does nothing, if another lane of the name is in
// use.
func (m *machine) renameLane(l *lane, today laneName) bool {
	if other := m.lanes[today]; other != nil {
		if len(other.chains) > 0 || other.cold.len() > 0 || other.timers > 0 {
			return false
		}
		m.dropLane(other.number, other)
	}
	if m.lanes[l.name] == l {
		delete(m.lanes, l.name)
	}
	l.name = today
	m.lanes[today] = l
	m.saveLane(l.checkpoint(false))
	if l.timed != 0 {
		m.saveLane(l.checkpoint(true))
	}
	return true
}

// saveLane puts a lane into the next commit.
func (m *machine) saveLane(c checkpoint.Lane) {
	i := slices.IndexFunc(m.pend.lanes, func(n checkpoint.Lane) bool { return n.Number == c.Number })
	if i < 0 {
		m.pend.lanes = append(m.pend.lanes, c)
	} else {
		m.pend.lanes[i] = c
	}
}

// renameSinks gives sinks the names of today, with all that they are owed. Dead
// letters stay under the name under which they were given up. A sink delivers
// what it owes under its old name where another one of the new name is in use. It
// returns the new names of those that were renamed, by the old ones.
func (m *machine) renameSinks(r *Rules) (renamed map[string]string) {
	for _, old := range slices.Sorted(maps.Keys(r.RenamedSinks)) {
		s, today := m.sinks[old], r.RenamedSinks[old]
		if s == nil || old == today || m.sinks[today].inUse() {
			continue
		}
		if renamed == nil {
			renamed = make(map[string]string)
		}
		renamed[old] = today
		remembered := s.held || s.paused
		if remembered {
			m.pend.setSink(checkpoint.SinkState{Name: old})
		}
		m.leaveLetters(s)
		if o := m.sinks[today]; o != nil {
			m.adoptLetters(s, o)
		}
		s.name, s.cfg.Name = today, today
		m.sinks[today] = s
		slices.SortFunc(m.order, func(a, b *sink) int { return strings.Compare(a.name, b.name) })
		if remembered {
			m.remember(s)
		}
	}
	return renamed
}

// inUse reports whether s is more than a name of dead letters.
func (s *sink) inUse() bool {
	return s != nil && (s.configured || s.owed > 0 || s.timed > 0 || s.inFlight > 0 || s.held || s.paused)
}

// leaveLetters leaves the dead letters of a sink behind, under the name that it
// gives up.
func (m *machine) leaveLetters(s *sink) {
	delete(m.sinks, s.name)
	if s.deadLetters == 0 {
		return
	}
	m.order = slices.DeleteFunc(m.order, func(o *sink) bool { return o == s })
	left := m.sink(s.name)
	m.order = append(m.order, s) // it is sorted by the caller
	left.number, s.number = s.number, left.number
	m.numbered[left.number], m.numbered[s.number] = left, s
	left.deadLetters, s.deadLetters = s.deadLetters, 0
}

// adoptLetters takes over the dead letters of o, which are under the name that s
// is about to get.
func (m *machine) adoptLetters(s, o *sink) {
	for number, l := range m.numbers {
		if l.sink == o {
			m.dropLane(number, l)
		}
	}
	slices.Sort(m.pend.dropped)
	m.order = slices.DeleteFunc(m.order, func(k *sink) bool { return k == o })
	m.numbered[s.number], m.numbered[o.number] = nil, s
	s.number, s.deadLetters = o.number, o.deadLetters
}

func (p *pending) setSink(st checkpoint.SinkState) {
	if p.sinks == nil {
		p.sinks = make(map[string]checkpoint.SinkState)
	}
	p.sinks[st.Name] = st
}
