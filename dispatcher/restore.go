package dispatcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// restore takes over what the store holds of the shard. Everything owed begins
// on disk only, due as it was before; memory fills as it is needed.
func (m *machine) restore(ctx context.Context, t moment, store checkpoint.Store) (*checkpoint.State, error) {
	st, err := store.Load(ctx, m.shard)
	if err != nil {
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	}
	m.sequence, m.durableSequence = st.Sequence, st.Sequence
	m.nextOrdinal = max(m.nextOrdinal, st.NextOrdinal)
	m.durable, m.cutOrdinal = m.nextOrdinal, m.nextOrdinal
	if m.term == 0 {
		m.term = max(1, st.Term)
	}
	if err := m.restoreLanes(st.Lanes); err != nil {
		return nil, err
	}
	m.reading.states(st.Ranges)
	for d, err := range store.Dead(ctx, m.shard) {
		if err != nil {
			return nil, fmt.Errorf("load the dead letters: %w", err)
		}
		m.keepLetter(d)
	}
	for _, k := range st.Sinks {
		m.restoreSink(k)
	}
	if err := m.restoreOwed(ctx, t, store); err != nil {
		return nil, err
	}
	m.dropUnusedLanes()
	if m.rules != nil {
		m.renameLanes(m.rules)
		m.learn(m.rules)
		m.retime(t)
	}
	return st, nil
}

// restoreLanes takes over lanes under the names that they had. Sinks have those of
// today.
func (m *machine) restoreLanes(all []checkpoint.Lane) error {
	for _, l := range all {
		if !l.Timed {
			m.addLane(l.Number, laneName{l.Rule, l.Send, l.Sink}, m.sink(m.rules.sinkToday(l.Sink)))
		}
	}
	for _, timed := range all {
		if !timed.Timed {
			continue
		}
		l := m.lanes[laneName{timed.Rule, timed.Send, timed.Sink}]
		if l == nil || l.timed != 0 {
			return fmt.Errorf("the timed lane %d (rule %q, send %q, sink %q) stands beside none", timed.Number, timed.Rule, timed.Send, timed.Sink)
		}
		l.timed = timed.Number
		m.timedLanes[timed.Number] = l
		m.nextLane = max(m.nextLane, timed.Number+1)
	}
	return nil
}

// restoreOwed builds the index of cold chains.
func (m *machine) restoreOwed(ctx context.Context, t moment, store checkpoint.Store) error {
	seconds := make(map[*sink]map[int64]int64)
	var l *lane
	var counted coldChain // being counted; none while count is 0
	flush := func() {
		if counted.count > 0 {
			l.cold.put(counted)
		}
	}
	for o, err := range store.Owed(ctx, m.shard) {
		if err != nil {
			return fmt.Errorf("load what is owed: %w", err)
		}
		if timed := m.timedLanes[o.Lane]; timed != nil {
			if err := m.restoreTimed(t, timed, &o); err != nil {
				return err
			}
			continue
		}
		if l == nil || l.number != o.Lane || counted.id != o.Chain {
			flush()
			if l = m.numbers[o.Lane]; l == nil {
				return fmt.Errorf("delivery %d is owed to lane %d, which the checkpoint does not know", o.Ordinal, o.Lane)
			}
			counted = coldChain{id: o.Chain, from: o.Ordinal, due: dueAt(t, o, l.sink.cfg.Retry.longest())}
		}
		counted.count++
		counted.last = o.Ordinal
		s := l.sink
		s.owed++
		if seconds[s] == nil {
			seconds[s] = make(map[int64]int64)
		}
		seconds[s][o.Admitted.Unix()]++
	}
	flush()
	for s, counts := range seconds {
		s.ages.load(counts)
	}
	for _, l := range m.numbers {
		l.sink.placeCold(l, t.now)
	}
	return nil
}

// dueAt turns a persisted due time into one of this process. What was never
// tried is due in the order of its age; a due time beyond the longest interval
// comes from a clock that has jumped.
func dueAt(t moment, o checkpoint.Owed, longest time.Duration) instant {
	at := o.Retry.Due
	if at.IsZero() {
		return t.now + instant(min(0, o.Admitted.Sub(t.wall)))
	}
	return t.now + instant(min(at.Sub(t.wall), longest))
}

// dropUnusedLanes forgets lanes that are owed nothing: they come back when they
// are needed, and rules that are gone leave nothing behind.
func (m *machine) dropUnusedLanes() {
	for number, l := range m.numbers {
		if l.cold.len() > 0 || l.timers > 0 {
			continue
		}
		m.dropLane(number, l)
	}
	slices.Sort(m.pend.dropped)
	for _, s := range m.sinks {
		if s.owed == 0 && s.timed == 0 && !s.configured && s.deadLetters == 0 && !s.held && !s.paused {
			m.forgetSink(s)
		}
	}
}

// drained reports whether s owes nothing, and that is durable.
func (m *machine) drained(s *sink) bool {
	switch {
	case s.owed > 0 || s.timed > 0 || s.inFlight > 0:
		s.drained = 0
		return false
	case s.drained == 0:
		s.drained = m.sequence
		if !m.pend.empty() {
			s.drained++
		}
	}
	return m.durableSequence >= s.drained
}

// dropSink forgets a sink that owes nothing, with its lanes. It stays known as
// long as it has dead letters, or somebody has paused it.
func (m *machine) dropSink(s *sink) {
	for number, l := range m.numbers {
		if l.sink == s {
			m.dropLane(number, l)
		}
	}
	slices.Sort(m.pend.dropped)
	s.configured = false
	if s.held {
		s.release()
		m.remember(s)
	}
	if s.deadLetters == 0 && !s.paused {
		m.forgetSink(s)
	}
}

func (m *machine) dropLane(number uint32, l *lane) {
	delete(m.numbers, number)
	if m.lanes[l.name] == l {
		delete(m.lanes, l.name)
	}
	if l.timers > 0 {
		m.dropMarkers(l)
	}
	m.forgetLane(number)
	if l.timed != 0 {
		delete(m.timedLanes, l.timed)
		m.forgetLane(l.timed)
	}
}

// dropMarkers removes what is left of the timers of a lane that is owed nothing.
func (m *machine) dropMarkers(l *lane) {
	for p, tm := range m.timers.of {
		if p.lane == l.number {
			m.unmark(l, tm)
			m.timers.remove(l, tm)
		}
	}
}

// forgetLane says in the next commit that there is no such lane.
func (m *machine) forgetLane(number uint32) {
	// A lane that no commit has named yet is simply not named.
	if i := slices.IndexFunc(m.pend.lanes, func(n checkpoint.Lane) bool { return n.Number == number }); i >= 0 {
		m.pend.lanes = slices.Delete(m.pend.lanes, i, i+1)
		return
	}
	m.pend.dropped = append(m.pend.dropped, number)
}

func (m *machine) forgetSink(s *sink) {
	delete(m.sinks, s.name)
	m.numbered[s.number] = nil
	m.order = slices.DeleteFunc(m.order, func(o *sink) bool { return o == s })
}

// status describes the sinks.
func (m *machine) status() []SinkStatus {
	all := make([]SinkStatus, 0, len(m.order))
	for _, s := range m.order {
		st := SinkStatus{
			Name: s.name, Configured: s.defined, Owed: s.owed, DeadLetters: s.deadLetters,
			InFlight: s.inFlight, Waiting: s.timed, Held: s.held, HeldSince: s.heldSince, Reason: s.reason, Paused: s.paused, PausedSince: s.pausedSince,
			LastError: s.lastError, LastErrorAt: s.lastErrorAt, LastDeliveredAt: s.lastDeliveredAt,
		}
		st.Breaker, st.BreakerUntil = s.breakerStatus()
		if second, ok := s.ages.oldest(); ok {
			st.OldestAdmitted = time.Unix(second, 0)
		}
		all = append(all, st)
	}
	return all
}

// mergeRanges applies what a batch says of ranges to the states known so far.
func mergeRanges(known []checkpoint.RangeState, drop []keyhook.Range, set []checkpoint.RangeState) []checkpoint.RangeState {
	if len(drop) == 0 && len(set) == 1 {
		for i := range known {
			if known[i].Range.Equal(set[0].Range) {
				known[i] = set[0]
				return known
			}
		}
	}
	known = slices.DeleteFunc(known, func(k checkpoint.RangeState) bool {
		return slices.ContainsFunc(drop, k.Range.Equal) ||
			slices.ContainsFunc(set, func(s checkpoint.RangeState) bool { return s.Range.Equal(k.Range) })
	})
	known = append(known, set...)
	slices.SortFunc(known, func(a, b checkpoint.RangeState) int {
		return cmp.Compare(string(a.Range.Start), string(b.Range.Start))
	})
	return known
}
