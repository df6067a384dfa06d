package dispatcher

import (
	"fmt"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// bury makes a dead letter of a delivery that was owed and is no longer in its
// chain.
func (m *machine) bury(t moment, it *item, reason keyhook.Reason, text string) {
	m.settle(it, keyhook.Dead, reason, text)
	m.lay(t, it, reason, text)
}

// stillborn makes a dead letter of a delivery that was never owed.
func (m *machine) stillborn(t moment, it *item, reason keyhook.Reason, text string) {
	m.ends = append(m.ends, end{lane: it.lane, d: it.d, outcome: keyhook.Dead, reason: reason, err: text})
	if it.d.Order == keyhook.OrderKey {
		m.bar(place{it.lane.number, it.chain})
	}
	m.lay(t, it, reason, text)
}

// lay puts a dead letter into the next commit.
func (m *machine) lay(t moment, it *item, reason keyhook.Reason, text string) {
	dl := checkpoint.DeadLetter{
		Number:     m.nextOrdinal,
		DeadLetter: keyhook.DeadLetter{Delivery: it.snapshot(), Reason: reason, Error: text, FailedAt: t.wall.Round(0)},
	}
	m.nextOrdinal++
	m.pend.dead = append(m.pend.dead, dl)
	m.keepLetter(dl.Dead())
	to := it.lane.sink.cfg.DeadLetterTo
	if to == "" || m.story == nil || m.telling {
		return
	}
	if d := m.story(&dl.DeadLetter, dl.Number, to); d != nil {
		m.stories = append(m.stories, d)
	}
}

// tellStories admits the stories of dead letters, at the end of whatever made
// those. A story waits for the commit that holds its letter: only from then on the
// letter has its number, and the story its id, for good. One for which there is
// no room has no story of its own.
func (m *machine) tellStories(t moment) {
	m.telling = true
	for _, d := range m.stories {
		it := m.item(t, d)
		it.after = m.sequence + 1
		m.admitOne(t, it)
	}
	m.stories, m.telling = nil, false
}

// full reports why nothing more may be owed to s, if so.
func (s *sink) full() (why string, full bool) {
	if s.cfg.MaxOwed == 0 || s.owed < int64(s.cfg.MaxOwed) {
		return "", false
	}
	return fmt.Sprintf("the sink is owed %d deliveries already (max_owed)", s.owed), true
}

// replaces reports whether it will take the place of a change that is pending.
func replaces(it *item) bool {
	c := it.lane.chains[it.chain]
	if it.d.OnFailure != keyhook.Supersede || c == nil || c.cold > 0 || c.state == loading {
		return false
	}
	old := c.head
	if c.state == sending {
		old = old.next
	}
	for ; old != nil; old = old.next {
		if string(old.d.ChainKey()) == string(it.d.ChainKey()) {
			return true
		}
	}
	return false
}

// restoreSink takes over what was remembered of a sink.
func (m *machine) restoreSink(st checkpoint.SinkState) {
	name := m.rules.sinkToday(st.Name)
	s := m.sink(name)
	if name != st.Name {
		m.pend.setSink(checkpoint.SinkState{Name: st.Name})
		defer m.remember(s)
	}
	s.paused, s.pausedSince = st.Paused, st.PausedSince
	if !st.Held {
		return
	}
	if s.configured && s.cfg.Fingerprint != st.Fingerprint {
		m.remember(s)
		return
	}
	s.held, s.reason, s.heldSince, s.heldPrint = true, st.Reason, st.Since, st.Fingerprint
}

// remember puts what must be remembered of s into the next commit.
func (m *machine) remember(s *sink) {
	m.pend.setSink(checkpoint.SinkState{
		Name: s.name, Held: s.held, Reason: s.reason, Since: s.heldSince, Fingerprint: s.heldPrint,
		Paused: s.paused, PausedSince: s.pausedSince,
	})
}

// hold keeps back all that s is owed, until its configuration changes or
// somebody resumes it.
func (m *machine) hold(t moment, s *sink, why string) {
	s.held, s.reason, s.heldPrint = true, why, s.cfg.Fingerprint
	s.heldSince = t.wall.Round(0)
	m.remember(s)
}

// pause keeps back all that s is owed until somebody resumes it. It reports
// false if there is no such sink.
func (m *machine) pause(wall time.Time, name string) bool {
	s := m.sinks[name]
	if s == nil {
		return false
	}
	if !s.paused {
		s.paused, s.pausedSince = true, wall.Round(0)
		m.remember(s)
	}
	return true
}

// resume ends a pause, a hold and an open breaker. It reports false if there is
// no such sink.
func (m *machine) resume(name string) bool {
	s := m.sinks[name]
	if s == nil {
		return false
	}
	if s.paused || s.held {
		s.paused, s.pausedSince = false, time.Time{}
		s.release()
		m.remember(s)
	}
	if s.breakerOpen() {
		m.turns = append(m.turns, turn{sink: s, from: breakerOpen, to: breakerClosed})
		m.setBreaker(s)
	}
	return true
}

// release ends a hold.
func (s *sink) release() { s.held, s.reason, s.heldSince, s.heldPrint = false, "", time.Time{}, "" }
