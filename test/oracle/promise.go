package oracle

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Guarantee names what was broken.
type Guarantee string

// Guarantees.
const (
	Faithful     Guarantee = "Faithful"
	Reliable     Guarantee = "Reliable"
	Atomic       Guarantee = "Atomic"
	Ordered      Guarantee = "Ordered"
	Unique       Guarantee = "Unique"
	Resumable    Guarantee = "Resumable"
	Bookmarkable Guarantee = "Bookmarkable"
)

// Promise is what a stream of deliveries owes: one send of one rule, with the
// default order.
type Promise struct {
	// After is a revision at which keyhook was seen ready: every later change
	// must arrive, earlier ones may.
	After int64
	// Gaps are the parts of the history that keyhook says it could not read and
	// has repaired. Changes in them may be missing, but afterwards the receiver
	// must know of every key what etcd held at the end of the gap.
	Gaps []Gap
	// Bookmarks are what keyhook said of its progress.
	Bookmarks []Bookmark
	// ID says what the ids are made of; nil does not look.
	ID *Identifier

	// Kills are those of keyhook, in any order. Without any, nothing may be
	// delivered twice.
	Kills []Kill
	// InFlight is how many attempts keyhook may be making at once.
	InFlight int
	// Lossy says that the sender may give up before it has read an answer, so
	// that what it could not read may come again.
	Lossy bool
}

// Kill is one of keyhook.
type Kill struct {
	// At is after keyhook had ended, and before it was started again.
	At time.Time
	// Durable is a moment at which all that had succeeded was written down before
	// the kill, but for what was in flight. Zero is when keyhook was started.
	Durable time.Time
}

// Gap is a part of the history that was not read but repaired by a listing at
// its end. Both ends belong to it.
type Gap struct {
	From, To Moment
}

func (g Gap) holds(m Moment) bool { return g.From.Compare(m) <= 0 && m.Compare(g.To) <= 0 }

func (g Gap) String() string { return fmt.Sprintf("the gap from %v to %v", g.From, g.To) }

// Bookmark is what keyhook said at one moment: everything up to Position has
// been admitted, and Owed deliveries have not succeeded yet.
type Bookmark struct {
	At       time.Time
	Position Moment
	Owed     int // or Unstated
	// Arrived is how many attempts had arrived at some moment after that.
	Arrived int
	// Head is etcd's revision at some moment after that, 0 if unknown.
	Head int64
}

// Unstated is what a bookmark owes that says nothing about it.
const Unstated = -1

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
	Synthetic int // of Delivered, those that first came from a listing
	Repeats   int // successes of what had succeeded before
	Bound     int // of Repeats: what succeeded after all was durable, and what was in flight
	Bookmarks int
	// Forgotten counts keys of which the receiver knows more than keyhook after a
	// kill and a gap: told, killed before it was written down, taken back within
	// the gap.
	Forgotten int
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
	s := fmt.Sprintf("%d changes, %d attempts, %d delivered, %d repeated (bound %d, oldest %v before a kill)",
		r.Changes, r.Attempts, r.Delivered, r.Repeats, r.Bound, r.Oldest.Round(time.Millisecond))
	if r.Synthetic > 0 {
		s += fmt.Sprintf(", %d synthetic", r.Synthetic)
	}
	if r.Forgotten > 0 {
		s += fmt.Sprintf(", %d forgotten", r.Forgotten)
	}
	if r.Bookmarks > 0 {
		s += fmt.Sprintf(", %d bookmarks", r.Bookmarks)
	}
	return s
}

func (r *Report) breach(g Guarantee, format string, args ...any) {
	r.Violations = append(r.Violations, Violation{g, fmt.Sprintf(format, args...)})
}
