package oracle

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Guarantee names what was broken.
type Guarantee string

// Guarantees.
const (
	Faithful  Guarantee = "Faithful"
	Reliable  Guarantee = "Reliable"
	Ordered   Guarantee = "Ordered"
	Unique    Guarantee = "Unique"
	Resumable Guarantee = "Resumable"
)

// Promise is what a stream of deliveries owes: one send of one rule, with the
// default order.
type Promise struct {
	// After is a revision at which keyhook was seen ready: every later change
	// must arrive, earlier ones may.
	After int64
	// Kills are the moments at which keyhook was killed. Without any, nothing may
	// be delivered twice.
	Kills []time.Time
	// Window is how long before a kill something may have succeeded that is
	// delivered again: the longest time between two commits for which keyhook
	// goes on sending. The default is 6 s; keyhook stops sending after 5 s.
	Window time.Duration
	// Usual is the same for the sum over all kills: what succeeded within Usual
	// before the kills, and InFlight for each of them, bounds all repeats. It is
	// five commit intervals by default, 500 ms.
	Usual    time.Duration
	InFlight int
	// Lossy says that the sender may give up before it has read an answer, so
	// that what it could not read may come again.
	Lossy bool
}

// Violation is one breach of a guarantee.
type Violation struct {
	Guarantee Guarantee
	Detail    string
}

func (v Violation) String() string { return string(v.Guarantee) + ": " + v.Detail }

// Report is what a check found.
type Report struct {
	Changes   int // that the history owes
	Attempts  int
	Delivered int // distinct changes that succeeded
	Repeats   int // successes of what had succeeded before
	Bound     int // of Repeats
	// Oldest is the longest time before a kill that something succeeded which was
	// delivered again.
	Oldest     time.Duration
	Violations []Violation
}

// Err returns nil if nothing was violated.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	const shown = 20
	var b strings.Builder
	fmt.Fprintf(&b, "%d violations", len(r.Violations))
	for _, v := range r.Violations[:min(shown, len(r.Violations))] {
		b.WriteString("\n\t" + v.String())
	}
	return errors.New(b.String())
}

func (r *Report) String() string {
	return fmt.Sprintf("%d changes, %d attempts, %d delivered, %d repeated (bound %d, oldest %v before a kill)",
		r.Changes, r.Attempts, r.Delivered, r.Repeats, r.Bound, r.Oldest.Round(time.Millisecond))
}

func (r *Report) breach(g Guarantee, format string, args ...any) {
	r.Violations = append(r.Violations, Violation{g, fmt.Sprintf(format, args...)})
}

// change is where the delivery of one change of the history stands.
type change struct {
	*Change
	place    int    // among the changes of its key
	id       string // "" before the first attempt
	tried    bool
	settled  bool
	answered time.Time // the last success
	unread   bool
}

// identity is what a message tells of which change it is about. Two changes
// share it only within one transaction.
type identity struct {
	key      string
	revision int64
	typ      Type
}

// Check holds the attempts that one stream made against the history of the
// watched keys.
func Check(h History, attempts []Attempt, p Promise) *Report {
	p.Window = cmp.Or(p.Window, 6*time.Second)
	p.Usual = cmp.Or(p.Usual, 500*time.Millisecond)
	slices.SortFunc(p.Kills, time.Time.Compare)
	attempts = slices.SortedFunc(slices.Values(attempts), func(a, b Attempt) int { return cmp.Compare(a.Arrival, b.Arrival) })

	r := &Report{Attempts: len(attempts)}
	known := make(map[identity][]*change)
	byKey := make(map[string][]*change)
	for _, c := range h {
		state := &change{Change: c, place: len(byKey[c.Key])}
		byKey[c.Key] = append(byKey[c.Key], state)
		id := identity{c.Key, c.Revision, c.Type}
		known[id] = append(known[id], state)
		if c.Revision > p.After {
			r.Changes++
		}
	}

	of := assign(r, known, attempts)
	order(r, byKey, of, attempts, p)
	repeats(r, of, attempts, p)
	lost(r, byKey, p)
	return r
}

// assign finds the change that each attempt is about, nil where there is none,
// and checks content and ids on the way.
func assign(r *Report, known map[identity][]*change, attempts []Attempt) []*change {
	of := make([]*change, len(attempts))
	ids := make(map[string]*change)
	for i := range attempts {
		a := &attempts[i]
		same := known[identity{a.Key, a.Revision, a.Type}]
		if len(same) == 0 {
			r.breach(Faithful, "%s %q at %d arrived (id %s), which is not in etcd's history", a.Type, a.Key, a.Revision, a.ID)
			continue
		}
		c := ids[a.ID]
		if c == nil {
			next := slices.IndexFunc(same, func(c *change) bool { return c.id == "" })
			if next < 0 {
				r.breach(Unique, "%s has ids %s and %s", same[0], same[0].id, a.ID)
				of[i] = same[0]
				continue
			}
			c = same[next]
			c.id, ids[a.ID] = a.ID, c
		}
		if !slices.Contains(same, c) {
			r.breach(Unique, "id %s stands for %s and for %s", a.ID, c, same[0])
			of[i] = same[0]
			continue
		}
		if !a.tells(c.Change) {
			r.breach(Faithful, "%s arrived with another content than etcd holds: %+v prev %+v, not %+v prev %+v", c, *a, a.Prev, *c.Change, c.Prev)
		}
		of[i] = c
	}
	return of
}

// order checks that no change of a key was tried before all of its predecessors
// had succeeded.
func order(r *Report, byKey map[string][]*change, of []*change, attempts []Attempt, p Promise) {
	for _, c := range of {
		if c != nil {
			c.tried = true
		}
	}
	next := make(map[string]int, len(byKey))
	for key, changes := range byKey {
		// What came before keyhook was ready may be owed or not, but where it
		// begins it must go on.
		next[key] = slices.IndexFunc(changes, func(c *change) bool { return c.tried || c.Revision > p.After })
	}
	for i, c := range of {
		if c == nil {
			continue
		}
		if ahead := next[c.Key]; c.place > ahead {
			r.breach(Ordered, "%s was tried (attempt %d, succeeded: %t) before %s had succeeded", c, attempts[i].Arrival, attempts[i].OK, byKey[c.Key][ahead])
		}
		if attempts[i].OK && !c.settled {
			c.settled = true
			r.Delivered++
			for changes := byKey[c.Key]; next[c.Key] < len(changes) && changes[next[c.Key]].settled; {
				next[c.Key]++
			}
		}
	}
}

// repeats checks that only kills made anything succeed twice, and not more than
// they could.
func repeats(r *Report, of []*change, attempts []Attempt, p Promise) {
	var answers []time.Time // of all successes, for the bound
	for i, c := range of {
		a := &attempts[i]
		if c == nil || !a.OK {
			continue
		}
		answers = append(answers, a.Answered)
		if !c.answered.IsZero() {
			r.repeat(c, a, p)
		}
		c.answered, c.unread = a.Answered, a.Unread
	}
	slices.SortFunc(answers, time.Time.Compare)
	for _, kill := range p.Kills {
		r.Bound += between(answers, kill.Add(-p.Usual), kill) + p.InFlight
	}
	if len(p.Kills) > 0 && r.Repeats > r.Bound {
		r.breach(Resumable, "%d repeats, more than the %d that succeeded in the %v before each of %d kills or were in flight",
			r.Repeats, r.Bound, p.Usual, len(p.Kills))
	}
}

// repeat judges one success of what had succeeded before.
func (r *Report) repeat(c *change, again *Attempt, p Promise) {
	// The first kill at or after the earlier success explains the repeat, if it
	// came before the later one and soon enough.
	at, _ := slices.BinarySearchFunc(p.Kills, c.answered, time.Time.Compare)
	killed := at < len(p.Kills) && !p.Kills[at].After(again.Answered)
	switch {
	case killed:
		r.Repeats++
		age := p.Kills[at].Sub(c.answered)
		r.Oldest = max(r.Oldest, age)
		if age > p.Window {
			r.breach(Resumable, "%s was delivered again after a kill %v after it had succeeded", c, age)
		}
	case p.Lossy && c.unread:
		// The sender gave up just before the answer came.
	default:
		r.Repeats++
		r.breach(Resumable, "%s was delivered again (attempt %d), and no kill came between", c, again.Arrival)
	}
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
func lost(r *Report, byKey map[string][]*change, p Promise) {
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		for _, c := range byKey[key] {
			if c.Revision > p.After && !c.settled {
				r.breach(Reliable, "%s was never delivered (tried: %t)", c, c.tried)
			}
		}
	}
}
