package oracle

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// change is where the delivery of one change of the history stands.
type change struct {
	*Change
	place    int    // among the changes of its key
	id       string // "" before the first attempt
	told     string // the id of the synthetic DELETE that told of it, "" if none did
	owed     bool   // it must arrive
	due      bool   // nothing behind it may arrive before it has
	tried    bool
	settled  bool
	arrival  int       // of the first success
	known    time.Time // the last success so far, while the order is checked
	answered time.Time // the same, while repeats are
	unread   bool
}

func (s *change) change() *Change {
	if s == nil {
		return nil
	}
	return s.Change
}

// identity is what a message tells of which change it is about. Two changes
// share it only within one transaction, or where a restore brought one back.
type identity struct {
	key      string
	revision int64
	typ      Type
}

// checking is a check in progress.
type checking struct {
	Promise
	report   *Report
	attempts []Attempt
	all      []*change
	byKey    map[string][]*change
	known    map[identity][]*change
	of       []*change // the change that each attempt is about, nil where there is none
	gaps     []Gap     // with those that a restore tears by itself

	successes []time.Time // of all attempts, sorted
	undone    []int       // by kill: repeats of what was durable before it
}

// Check holds the attempts that one stream made against the history of the
// watched keys.
func Check(h History, attempts []Attempt, p Promise) *Report {
	p.Kills = slices.SortedFunc(slices.Values(p.Kills), func(a, b Kill) int { return a.At.Compare(b.At) })
	for i := range p.Kills[min(1, len(p.Kills)):] {
		// What an earlier kill has left undone is on its account.
		if before := p.Kills[i].At; p.Kills[i+1].Durable.Before(before) {
			p.Kills[i+1].Durable = before
		}
	}
	c := &checking{
		Promise: p,
		attempts: slices.SortedFunc(slices.Values(attempts), func(a, b Attempt) int {
			return cmp.Compare(a.Arrival, b.Arrival)
		}),
		report: &Report{Attempts: len(attempts), Bookmarks: len(p.Bookmarks)},
		byKey:  make(map[string][]*change),
		known:  make(map[identity][]*change),
		gaps:   slices.Concat(p.Gaps, torn(h, p.Gaps)),
	}
	slices.SortFunc(c.gaps, func(a, b Gap) int { return a.To.Compare(b.To) })
	for i := range c.attempts {
		if a := &c.attempts[i]; a.OK {
			c.successes = append(c.successes, a.Answered)
		}
	}
	slices.SortFunc(c.successes, time.Time.Compare)
	c.enter(h)
	c.assign()
	c.order()
	c.repeats()
	c.lost()
	c.repaired()
	c.bookmarks()
	return c.report
}

// torn returns what a restore has taken back before keyhook read it. Where a gap
// says how far it had read, that counts.
func torn(h History, gaps []Gap) []Gap {
	var found []Gap
	for _, c := range h {
		if !c.Restored || len(found) > 0 && found[len(found)-1].To == c.Moment() {
			continue
		}
		g := Gap{From: Moment{c.Era - 1, c.base + 1}, To: c.Moment()}
		if !slices.ContainsFunc(gaps, func(known Gap) bool { return known.From.Era < c.Era && known.To.Era >= c.Era }) {
			found = append(found, g)
		}
	}
	return found
}

// enter says of each change what is owed.
func (c *checking) enter(h History) {
	for _, entry := range h {
		s := &change{Change: entry, place: len(c.byKey[entry.Key])}
		inGap := slices.ContainsFunc(c.gaps, func(g Gap) bool { return g.holds(entry.Moment()) })
		s.owed = !entry.Restored && !inGap && c.late(entry)
		if s.owed {
			c.report.Changes++
		}
		c.all = append(c.all, s)
		c.byKey[entry.Key] = append(c.byKey[entry.Key], s)
		id := identity{entry.Key, entry.Revision, entry.Type}
		c.known[id] = append(c.known[id], s)
	}
}

// late reports whether a change came after keyhook was seen ready.
func (c *checking) late(entry *Change) bool {
	return entry.Moment().Compare(Moment{0, c.After}) > 0
}

// repeats checks that only kills made anything succeed twice, and not more than
// they could.
func (c *checking) repeats() {
	r := c.report
	c.undone = make([]int, len(c.Kills))
	for i, s := range c.of {
		a := &c.attempts[i]
		if s == nil || !a.OK {
			continue
		}
		if !s.answered.IsZero() {
			c.repeat(s, a)
		}
		s.answered, s.unread = a.Answered, a.Unread
	}
	for i, kill := range c.Kills {
		r.Bound += between(c.successes, kill.Durable, kill.At) + c.InFlight
		if n := c.undone[i]; n > c.InFlight {
			r.breach(Resumable, "%d deliveries were repeated after the kill at %s that had succeeded before all was durable, %v earlier; only %d can have been in flight",
				n, kill.At.Format("15:04:05.000"), kill.At.Sub(kill.Durable), c.InFlight)
		}
	}
}

// repeat judges one success of what had succeeded before.
func (c *checking) repeat(s *change, again *Attempt) {
	r := c.report
	// The first kill at or after the earlier success explains the repeat, if it
	// came before the later one and what had succeeded was not durable.
	at := c.next(s.answered)
	killed := at < len(c.Kills) && !c.Kills[at].At.After(again.Answered)
	switch {
	case killed:
		r.Repeats++
		r.Oldest = max(r.Oldest, c.Kills[at].At.Sub(s.answered))
		read := !c.Lossy || !s.unread // by the sender, as far as one can tell
		if read && !s.answered.After(c.Kills[at].Durable) {
			c.undone[at]++
		}
	case c.Lossy && (s.unread || again.Unread):
		// The sender gave up before it had read the answer: to the first, or to
		// this one, which was dealt with late.
	default:
		r.Repeats++
		r.breach(Resumable, "%s was delivered again (attempt %d), and no kill came between", s, again.Arrival)
	}
}

// next returns the place of the first kill at or after a moment.
func (c *checking) next(moment time.Time) int {
	at, _ := slices.BinarySearchFunc(c.Kills, moment, func(k Kill, moment time.Time) int { return k.At.Compare(moment) })
	return at
}

// between counts the times in (from, to].
func between(sorted []time.Time, from, to time.Time) int {
	after := func(t time.Time) int {
		n, _ := slices.BinarySearchFunc(sorted, t, func(a, b time.Time) int {
			if a.After(b) {
				return 1
			}
			return -1
		})
		return n
	}
	return after(to) - after(from)
}

// lost checks that nothing is missing.
func (c *checking) lost() {
	arrived := make(map[Moment]bool) // something of the revision has
	for _, s := range c.all {
		arrived[s.Moment()] = arrived[s.Moment()] || s.settled
	}
	for _, key := range slices.Sorted(maps.Keys(c.byKey)) {
		for _, s := range c.byKey[key] {
			switch {
			case !s.owed || s.settled:
			case arrived[s.Moment()]:
				c.report.breach(Atomic, "%s was never delivered (tried: %t), but other changes of its revision were", s, s.tried)
			default:
				c.report.breach(Reliable, "%s was never delivered (tried: %t)", s, s.tried)
			}
		}
	}
}

// repaired checks that after each gap the receiver knew of every key what etcd
// held at its end.
func (c *checking) repaired() {
	for _, key := range slices.Sorted(maps.Keys(c.byKey)) {
		for _, g := range c.gaps {
			last := c.lastIn(key, g)
			if last == nil {
				continue
			}
			switch knows := c.knows(key, last.place); {
			case same(knows.change(), last.Change):
			case c.forgotten(key, g, knows, last):
				c.report.Forgotten++
			default:
				c.report.breach(Reliable, "%v was not repaired: of %q it ends with %v, and the receiver knows %v", g, key, last, knows.change())
			}
		}
	}
}

// forgotten reports whether keyhook cannot know that the receiver knows
// something else than what a gap ends with: it told it right before it was
// killed, all changes since then are gone, and the last one made the key what it
// was when keyhook last wrote down what it had read. That stays so over further
// gaps, until a change of the key is read again.
func (c *checking) forgotten(key string, g Gap, knows, last *change) bool {
	if knows == nil || !same(last.Change, c.before(key, g)) {
		return false
	}
	first := slices.IndexFunc(c.gaps, func(g Gap) bool { return g.holds(knows.Moment()) })
	if first < 0 || c.gaps[first].To.Compare(g.To) > 0 {
		return false
	}
	if first := c.gaps[first]; !same(c.lastIn(key, first).Change, c.before(key, first)) {
		return false
	}
	at := c.next(knows.known)
	return at < len(c.Kills) && knows.known.After(c.Kills[at].Durable)
}

// before returns what a key held when a gap began, nil if nothing.
func (c *checking) before(key string, g Gap) *Change {
	for _, s := range slices.Backward(c.byKey[key]) {
		if s.Moment().Compare(g.From) < 0 {
			return put(s.Change)
		}
	}
	return nil
}

// lastIn returns the last change of a key in a gap, nil if there is none.
func (c *checking) lastIn(key string, g Gap) *change {
	for _, s := range slices.Backward(c.byKey[key]) {
		if g.holds(s.Moment()) {
			return s
		}
	}
	return nil
}

// knows returns the change up to a place that the receiver has been told last;
// nil if it knows of none. What was there before keyhook was ready it knows.
func (c *checking) knows(key string, place int) *change {
	changes := c.byKey[key][:place+1]
	for _, s := range slices.Backward(changes) {
		if s.settled || !s.Restored && !c.late(s.Change) {
			return s
		}
	}
	return nil
}

// bookmarks checks that whatever keyhook had admitted and did not call owed had
// been delivered, and that positions are true.
func (c *checking) bookmarks() {
	var last *Bookmark
	for i := range c.Bookmarks {
		b := &c.Bookmarks[i]
		if b.Owed != Unstated {
			c.owing(b)
		}
		if b.Head > 0 && b.Position.Revision > b.Head {
			c.report.breach(Bookmarkable, "keyhook said that it is at %v, but etcd was at %d", b.Position, b.Head)
		}
		if last != nil && c.life(last.At) == c.life(b.At) && b.Position.Compare(last.Position) < 0 {
			c.report.breach(Bookmarkable, "keyhook went back from %v to %v, and no kill came between", last.Position, b.Position)
		}
		last = b
	}
}

// owing checks what a bookmark calls owed.
func (c *checking) owing(b *Bookmark) {
	missing := 0
	var first *change
	for _, s := range c.all {
		if s.owed && s.Moment().Compare(b.Position) <= 0 && (!s.settled || s.arrival > b.Arrived) {
			missing++
			first = cmp.Or(first, s)
		}
	}
	if missing > b.Owed {
		c.report.breach(Bookmarkable, "keyhook said that it is at %v and owes %d, but %d changes up to there had not been delivered, the first: %s",
			b.Position, b.Owed, missing, first)
	}
}

// life counts the kills before a moment.
func (c *checking) life(at time.Time) int {
	n := c.next(at)
	if n < len(c.Kills) && c.Kills[n].At.Equal(at) {
		n++
	}
	return n
}
