package oracle

import "slices"

// progress is how far the deliveries of one key have come.
type progress struct {
	next   int // the first change that is due and has not succeeded
	newest int // the last one that has succeeded, -1 if none has
	life   int // of keyhook
	tried  int // the last one that was tried in this life
	passed int // gaps that have been passed
}

// order checks that no change of a key was tried before all of its predecessors
// had succeeded, and that nothing went back.
func (c *checking) order() {
	for _, s := range c.of {
		if s != nil {
			s.tried = true
		}
	}
	keys := make(map[string]*progress, len(c.byKey))
	for key, changes := range c.byKey {
		// What came before keyhook was ready may be owed or not, but where it
		// begins it must go on.
		begun := false
		for _, s := range changes {
			begun = begun || s.tried
			s.due = s.owed || begun && !c.late(s.Change)
		}
		keys[key] = &progress{next: nextDue(changes, 0), newest: -1, tried: -1}
	}
	for i, s := range c.of {
		if s != nil {
			c.attempt(keys[s.Key], s, &c.attempts[i])
		}
	}
}

// nextDue returns the place of the first change from a place on that is due and
// has not succeeded.
func nextDue(changes []*change, from int) int {
	for from < len(changes) && (!changes[from].due || changes[from].settled) {
		from++
	}
	return from
}

// attempt judges one attempt at a change by those that came before.
func (c *checking) attempt(p *progress, s *change, a *Attempt) {
	changes := c.byKey[s.Key]
	if life := c.life(a.Answered); life != p.life {
		p.life, p.tried = life, -1
	}
	switch {
	case s.place > p.next:
		c.report.breach(Ordered, "%s was tried (attempt %d, succeeded: %t) before %s had succeeded", s, a.Arrival, a.OK, changes[p.next])
	case !s.due && !s.settled && s.place < p.newest:
		c.report.breach(Ordered, "%s was tried (attempt %d, succeeded: %t) after %s had succeeded", s, a.Arrival, a.OK, changes[p.newest])
	case s.settled && s.place < p.tried && c.Lossy && a.Unread:
		// A request that the sender gave up, dealt with after it was made again.
	case s.settled && s.place < p.tried:
		c.report.breach(Ordered, "%s was delivered again (attempt %d) after %s was tried, and no kill came between", s, a.Arrival, changes[p.tried])
	default:
		c.unrepaired(p, s, a)
	}
	p.tried = max(p.tried, s.place)
	if a.OK {
		s.known = a.Answered
	}
	if a.OK && !s.settled {
		s.settled, s.arrival = true, a.Arrival
		c.report.Delivered++
		if a.Synthetic {
			c.report.Synthetic++
		}
		p.newest = max(p.newest, s.place)
		p.next = nextDue(changes, p.next)
	}
}

// unrepaired checks that a gap was repaired before a change behind it was tried.
func (c *checking) unrepaired(p *progress, s *change, a *Attempt) {
	for _, g := range c.gaps[p.passed:] {
		last := c.lastIn(s.Key, g)
		if last == nil || s.place <= last.place {
			continue
		}
		p.passed = slices.Index(c.gaps, g) + 1
		if knows := c.knows(s.Key, last.place); !same(knows.change(), last.Change) && !c.forgotten(s.Key, g, knows, last) {
			c.report.breach(Ordered, "%s was tried (attempt %d, succeeded: %t) before %v was repaired, which ends with %v", s, a.Arrival, a.OK, g, last)
		}
	}
}
