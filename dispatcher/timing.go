package dispatcher

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// What deliveries with a Timing do; docs/architecture.md, "Time", has the states.

const (
	// heldShare is the part of the memory budget for deliveries that wait for
	// their time: what is beyond is read from disk when it is due.
	heldShare = 8
	// maxHeldLoads is how many of those are on their way from disk at most.
	maxHeldLoads = 32
)

// arrive takes a delivery that time has a say in.
func (m *machine) arrive(t moment, d *keyhook.Delivery) {
	l := m.lane(d)
	tm := m.timers.of[place{l.number, keyHash(d)}]
	switch {
	case d.Timing.For > 0 && tm != nil && (tm.held != 0 || tm.stands):
		m.absorb(l, tm, d)
	case d.Timing.For > 0:
		due := t.now + instant(d.Timing.For)
		if tm != nil {
			due = max(due, tm.window)
		}
		m.keep(t, l, d, keyhook.Holding, due)
	case tm != nil && tm.held != 0:
		due := tm.due
		m.dropHeld(l, tm, keyhook.Superseded)
		m.keep(t, l, d, keyhook.Waiting, due)
	case tm != nil && tm.window > t.now:
		due := tm.window
		m.unmark(l, tm)
		m.keep(t, l, d, keyhook.Waiting, due)
	default:
		m.admitOne(t, m.item(t, d))
		m.follow(t, l, d, false)
	}
}

// overtake ends what waits for the end of a quiet time that its rule does not ask
// for any more: d is newer, and goes at once.
func (m *machine) overtake(d *keyhook.Delivery) {
	l := m.lanes[laneName{d.Rule, d.Send, d.Sink}]
	if l == nil || l.timers == 0 || d.Rejected != nil {
		return
	}
	p := place{l.number, keyHash(d)}
	if tm := m.timers.of[p]; tm != nil && tm.held != 0 && tm.stage == keyhook.Waiting {
		m.dropHeld(l, tm, keyhook.Superseded)
		tm.window = past
		m.unstand(l, tm)
		m.bar(p)
	}
}

// absorb ends a delivery whose condition is known to hold.
func (m *machine) absorb(l *lane, tm *timer, d *keyhook.Delivery) {
	m.ends = append(m.ends, end{lane: l, d: d, outcome: keyhook.Absorbed})
	// The next change of a key that is gone is a new beginning, and there may be
	// none: it leaves no marker.
	gone := d.Event.Type == keyhook.Delete
	if tm.held != 0 {
		tm.gone = gone
	} else if gone {
		m.unstand(l, tm)
	}
}

// cancel takes the news that the condition of a rule does not hold for a chain.
func (m *machine) cancel(t moment, d *keyhook.Delivery) {
	l := m.lanes[laneName{d.Rule, d.Send, d.Sink}]
	if l == nil {
		return
	}
	tm := m.timers.of[place{l.number, keyHash(d)}]
	if tm == nil {
		return
	}
	if tm.held != 0 && tm.stage == keyhook.Holding {
		m.dropHeld(l, tm, keyhook.Cancelled)
	}
	if tm.window <= t.now {
		tm.window = past
	}
	m.unstand(l, tm)
}

// keep holds a delivery until it is due.
func (m *machine) keep(t moment, l *lane, d *keyhook.Delivery, stage keyhook.Stage, due instant) {
	it := m.timed(t, l, d, stage, due)
	tm := m.timers.put(l, place{l.number, it.chain})
	tm.held, tm.stage, tm.gone = it.d.Ordinal, stage, false
	m.timers.plan(tm, due)
	l.sink.timed++
	if m.heldBytes+it.size <= m.budget/heldShare {
		if m.held == nil {
			m.held = make(map[uint64]*item)
		}
		m.held[it.d.Ordinal] = it
		m.heldBytes += it.size
		m.total += it.size
	}
}

// timed puts something into the timed lane of l, with the next commit.
func (m *machine) timed(t moment, l *lane, d *keyhook.Delivery, stage keyhook.Stage, due instant) *item {
	it := m.item(t, d)
	it.chain, it.timed = keyHash(d), true
	it.retry.Stage = stage
	if due != never {
		it.retry.Due = t.wall.Add(time.Duration(due - t.now)).Round(0)
	}
	if l.timed == 0 {
		l.timed = m.nextLane
		m.nextLane++
		m.timedLanes[l.timed] = l
		m.pend.lanes = append(m.pend.lanes, l.checkpoint(true))
	}
	m.pend.fresh = append(m.pend.fresh, it)
	if m.pend.timed == nil {
		m.pend.timed = make(map[uint64]*item)
	}
	m.pend.timed[it.d.Ordinal] = it
	return it
}

// settleTimed removes what [machine.timed] put there.
func (m *machine) settleTimed(l *lane, tm *timer, ordinal uint64) {
	if it := m.pend.timed[ordinal]; it != nil { // no commit has said it yet
		it.settled = true
		delete(m.pend.timed, ordinal)
		return
	}
	m.pend.settled = append(m.pend.settled, l.timedRef(tm, ordinal))
}

// dropHeld ends the delivery that waits. Its timer may be left without a purpose.
func (m *machine) dropHeld(l *lane, tm *timer, o keyhook.Outcome) {
	e := end{lane: l, outcome: o}
	if it := m.takeHeld(l, tm); it != nil {
		e.d = it.d
	}
	m.ends = append(m.ends, e)
}

// takeHeld takes the delivery that waits out of its timer; nil if it is on disk.
func (m *machine) takeHeld(l *lane, tm *timer) *item {
	m.settleTimed(l, tm, tm.held)
	it := m.held[tm.held]
	if it != nil {
		delete(m.held, tm.held)
		m.heldBytes -= it.size
		m.total -= it.size
	}
	l.sink.timed--
	tm.held, tm.overdue, tm.loading = 0, false, false
	return it
}

// unmark removes the marker.
func (m *machine) unmark(l *lane, tm *timer) {
	if tm.mark != 0 {
		m.settleTimed(l, tm, tm.mark)
	}
	tm.mark, tm.stands = 0, false
}

// unstand makes the chain free for another delivery; at once, or at the end of
// its quiet time. Nothing waits there that a cancellation would end.
func (m *machine) unstand(l *lane, tm *timer) {
	stood := tm.stands
	tm.stands = false
	switch {
	case tm.held != 0:
		return
	case tm.window == past:
		m.unmark(l, tm)
		m.timers.remove(l, tm)
	case stood:
		m.timers.plan(tm, tm.window)
		// The marker says on disk that it stands, until there is another one.
		m.remark(l, tm)
	default:
		m.timers.plan(tm, tm.window)
	}
}

// follow leaves behind what a delivery that goes out asks for.
func (m *machine) follow(t moment, l *lane, d *keyhook.Delivery, gone bool) {
	timing := l.timing(d)
	stands := timing.For > 0 && d.Event.Type != keyhook.Delete && !gone
	p := place{l.number, keyHash(d)}
	if tm := m.timers.of[p]; tm != nil {
		m.unmark(l, tm)
		if !stands && timing.Every == 0 {
			m.timers.remove(l, tm)
		}
	}
	if !stands && timing.Every == 0 {
		return
	}
	tm := m.timers.put(l, p)
	tm.stands, tm.window, tm.gone = stands, past, false
	due := never
	if timing.Every > 0 {
		due = t.now + instant(timing.Every)
		tm.window = due
	}
	m.timers.plan(tm, due)
	stage := keyhook.Quiet
	if stands {
		stage = keyhook.Standing
	}
	tm.mark = m.timed(t, l, marker(d), stage, due).d.Ordinal
}

// marker is what is left of d: nobody will send it.
func marker(d *keyhook.Delivery) *keyhook.Delivery {
	return &keyhook.Delivery{
		ID: d.ID, Rule: d.Rule, Send: d.Send, Sink: d.Sink, Chain: d.Chain,
		Event: &keyhook.Event{Type: d.Event.Type, Key: d.Event.Key, Revision: d.Event.Revision},
	}
}

// remark says in the next commit that a marker stands no longer.
func (m *machine) remark(l *lane, tm *timer) {
	if it := m.pend.timed[tm.mark]; it != nil {
		it.retry.Stage = keyhook.Quiet
		return
	}
	m.pend.remarked = append(m.pend.remarked, checkpoint.Owed{
		Ref: l.timedRef(tm, tm.mark), Admitted: m.start.Round(0),
		Retry: keyhook.Retry{Stage: keyhook.Quiet, Due: m.start.Add(time.Duration(tm.window)).Round(0)},
	})
}

// fire lets happen what is due.
func (m *machine) fire(t moment) {
	for len(m.timers.heap) > 0 && m.timers.heap[0].due <= t.now {
		tm := m.timers.heap[0]
		m.timers.unplan(tm)
		l := m.numbers[tm.place.lane]
		switch {
		case tm.held != 0 && tm.stage == keyhook.Holding:
			tm.overdue = true
			if m.awaits(t, l, tm) {
				m.list(tm)
			}
		case tm.held != 0:
			m.ready(t, l, tm)
		default:
			tm.window = past
			if !tm.stands {
				m.unstand(l, tm)
			}
		}
	}
	m.prove(t)
}

// list puts a timer among those that are overdue.
func (m *machine) list(tm *timer) {
	m.latest = max(m.latest, tm.due)
	if !tm.listed {
		tm.listed = true
		m.overdue = append(m.overdue, tm)
	}
	if len(m.overdue) > 2*len(m.timers.of)+100 {
		m.reading.changed = true // most of them were cancelled: forget those
	}
}

// prove lets go what has been held for long enough, as far as everything that
// could have cancelled it until it was due is known to have been read.
func (m *machine) prove(t moment) {
	if !m.reading.changed {
		return
	}
	m.reading.changed = false
	kept := m.overdue[:0]
	for _, tm := range m.overdue {
		tm.listed = tm.overdue // if not, it was cancelled
		if !tm.overdue {
			continue
		}
		if tm.listed = m.awaits(t, m.numbers[tm.place.lane], tm); tm.listed {
			kept = append(kept, tm)
		}
	}
	clear(m.overdue[len(kept):])
	m.overdue = kept
}

// awaits reports whether what is due has to wait for reading. If not, it goes its
// way.
func (m *machine) awaits(t moment, l *lane, tm *timer) bool {
	until, watched := m.reading.until(l.watches)
	switch {
	case !watched && l.known:
		// Nobody could cancel it.
		m.dropHeld(l, tm, keyhook.Cancelled)
		if tm.window <= t.now {
			tm.window = past
		}
		m.unstand(l, tm)
	case until >= tm.due:
		tm.overdue = false
		m.ready(t, l, tm)
	default:
		return true
	}
	return false
}

// unread reports whether something waits for more to be read than has been asked
// for.
func (m *machine) unread() bool { return len(m.overdue) > 0 && m.latest > m.reading.asked }

// ready makes a delivery owed that was held, once it is in memory.
func (m *machine) ready(t moment, l *lane, tm *timer) {
	if it := m.held[tm.held]; it != nil {
		m.release(t, l, tm, it.d)
		return
	}
	tm.loading = true
	m.toFetch = append(m.toFetch, fetch{tm.place, tm.held})
}

// release makes it owed, from now on.
func (m *machine) release(t moment, l *lane, tm *timer, d *keyhook.Delivery) {
	ordinal, gone := tm.held, tm.gone
	m.takeHeld(l, tm)
	fresh := *d
	fresh.Retry = keyhook.Retry{}
	fresh.Rule, fresh.Send, fresh.Sink = l.name.rule, l.name.send, l.name.sink
	it := m.item(t, &fresh)
	if ordinal >= m.durable {
		// The commit that holds it says also what it took the place of.
		it.after = m.sequence + 1
	}
	m.admitOne(t, it)
	m.follow(t, l, &fresh, gone)
	m.tellStories(t)
}

// fetch is a delivery to be read from disk because it is due.
type fetch struct {
	place   place
	ordinal uint64
}

// wanted returns the timer that a fetch is for; nil if it is no longer wanted.
func (m *machine) wanted(f fetch) *timer {
	if tm := m.timers.of[f.place]; tm != nil && tm.loading && tm.held == f.ordinal {
		return tm
	}
	return nil
}

// nextFetches returns what is due and has to be read from disk now.
func (m *machine) nextFetches() (loads []load) {
	for m.fetching < maxHeldLoads && len(m.toFetch) > 0 {
		f := m.toFetch[0]
		if m.wanted(f) == nil {
			m.toFetch = m.toFetch[1:]
			continue
		}
		if f.ordinal >= m.durable {
			break // the next commit brings it within reach
		}
		m.toFetch = m.toFetch[1:]
		m.fetching++
		l := m.numbers[f.place.lane]
		loads = append(loads, load{lane: l, number: l.timed, chain: f.place.chain, from: f.ordinal, below: m.durable, maxBytes: 1})
	}
	if len(m.toFetch) == 0 {
		m.toFetch = nil
	}
	return loads
}

// fetched takes what was read because it is due.
func (m *machine) fetched(t moment, r load, ds []*keyhook.Delivery) error {
	m.fetching--
	p := place{r.lane.number, r.chain}
	tm := m.wanted(fetch{p, r.from})
	if tm == nil {
		return nil
	}
	if len(ds) == 0 || ds[0].Ordinal != r.from {
		return fmt.Errorf("lane %d (rule %q, send %q, sink %q): the store does not have delivery %d, which is due",
			r.number, r.lane.name.rule, r.lane.name.send, r.lane.name.sink, r.from)
	}
	m.release(t, r.lane, tm, ds[0])
	return nil
}

// purgeHeld ends a delivery that waits, as somebody asks for.
func (m *machine) purgeHeld(t moment, l *lane, o *checkpoint.Owed) bool {
	tm := m.timers.of[place{l.number, o.Chain}]
	if tm == nil || tm.held != o.Ordinal {
		return false
	}
	if tm.stage == keyhook.Waiting || tm.window <= t.now {
		tm.window = past
	}
	m.dropHeld(l, tm, keyhook.Purged)
	m.unstand(l, tm)
	return true
}

// restoreTimed takes over what waits, and markers. What is due is planned when
// all of a chain is known.
func (m *machine) restoreTimed(t moment, l *lane, o *checkpoint.Owed) error {
	tm := m.timers.put(l, place{l.number, o.Chain})
	// A clock that has jumped back does not make it wait for longer than ever.
	due := never
	if !o.Retry.Due.IsZero() {
		due = t.now + instant(min(o.Retry.Due.Sub(t.wall), max(0, o.Retry.Due.Sub(o.Admitted))))
	}
	switch o.Retry.Stage {
	case keyhook.Quiet, keyhook.Standing:
		tm.mark, tm.stands = o.Ordinal, o.Retry.Stage == keyhook.Standing
		if due != never {
			tm.window = due
		}
		if tm.held == 0 {
			m.timers.plan(tm, due)
		}
	case keyhook.Holding, keyhook.Waiting:
		tm.held, tm.stage = o.Ordinal, o.Retry.Stage
		l.sink.timed++
		m.timers.plan(tm, due)
	default:
		return fmt.Errorf("lane %d holds the delivery %d, which waits for nothing", o.Lane, o.Ordinal)
	}
	return nil
}

// retime makes what waits agree with the rules of today.
func (m *machine) retime(t moment) {
	all := make([]*timer, 0, len(m.timers.of))
	for _, tm := range m.timers.of {
		all = append(all, tm)
	}
	slices.SortFunc(all, func(a, b *timer) int { return cmp.Compare(a.held, b.held) })
	for _, tm := range all {
		l := m.numbers[tm.place.lane]
		switch {
		case tm.held != 0 && tm.stage == keyhook.Holding && l.spans.For == 0:
			// Nobody could cancel it.
			m.dropHeld(l, tm, keyhook.Cancelled)
		case tm.held != 0 && tm.stage == keyhook.Waiting && l.spans.Every == 0:
			m.timers.unplan(tm)
			m.ready(t, l, tm)
			continue
		}
		if l.spans.Every == 0 || tm.window <= t.now {
			tm.window = past
		}
		if l.spans.For == 0 || tm.held == 0 && !tm.stands {
			m.unstand(l, tm)
		}
	}
	m.reading.changed = true
}
