package dev

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"keyhook"
)

// remembered bounds the changes that a ledger knows of.
const remembered = 4096

// ledger holds what is owed against what has arrived, for the newest changes.
type ledger struct {
	mu        sync.Mutex
	evaluated map[int64][]*keyhook.Delivery // by revision
	order     []int64                       // of the revisions
	acked     map[string]bool               // ids that have arrived
	windows   map[string]bool               // chains with `every` that have had a delivery
	waiting   map[string]bool               // ids that time may hold back, or drop
	arrived   int                           // how many ever were
	dead      map[string]bool               // ids that became dead letters
	buried    int                           // how many ever did
	changed   chan struct{}                 // closed and replaced at each change
}

func newLedger() *ledger {
	return &ledger{
		evaluated: make(map[int64][]*keyhook.Delivery),
		acked:     make(map[string]bool),
		windows:   make(map[string]bool),
		waiting:   make(map[string]bool),
		dead:      make(map[string]bool),
		changed:   make(chan struct{}),
	}
}

func (l *ledger) update(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.changed)
	l.changed = make(chan struct{})
}

// owe notes what a change came to.
func (l *ledger) owe(e *keyhook.Event, ds []*keyhook.Delivery) {
	l.update(func() {
		if _, known := l.evaluated[e.Revision]; !known {
			l.order = append(l.order, e.Revision)
			l.evaluated[e.Revision] = nil
		}
		for _, d := range ds {
			if d.Cancels {
				continue // no delivery, but the end of one that waits
			}
			l.evaluated[e.Revision] = append(l.evaluated[e.Revision], d)
			if l.mayWait(d) {
				l.waiting[d.ID] = true
			}
		}
		for len(l.order) > remembered {
			for _, d := range l.evaluated[l.order[0]] {
				delete(l.acked, d.ID)
				delete(l.dead, d.ID)
				delete(l.waiting, d.ID)
			}
			delete(l.evaluated, l.order[0])
			l.order = l.order[1:]
		}
	})
}

// mayWait reports whether time may hold d back: it has a `for`, or comes within
// the window of an `every`.
func (l *ledger) mayWait(d *keyhook.Delivery) bool {
	if d.Timing.Every > 0 && d.Timing.For == 0 {
		chain := d.Rule + "\x00" + d.Send + "\x00" + string(d.ChainKey())
		if !l.windows[chain] && len(l.windows) < remembered {
			l.windows[chain] = true
			return false
		}
	}
	return !d.Timing.IsZero()
}

// held returns what of revision rev time may hold back, as "rule ⇒ sink".
func (l *ledger) held(rev int64) (names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.evaluated[rev] {
		if l.waiting[d.ID] && !l.acked[d.ID] && !l.dead[d.ID] {
			names = append(names, d.Rule+" ⇒ "+d.Sink)
		}
	}
	return names
}

// ack notes that id has arrived.
func (l *ledger) ack(id string) {
	l.update(func() {
		if _, known := l.evaluated[revisionOf(id)]; !known || l.acked[id] {
			return
		}
		l.acked[id] = true
		l.arrived++
	})
}

// bury notes that id became a dead letter: it will not arrive.
func (l *ledger) bury(id string) {
	l.update(func() {
		if _, known := l.evaluated[revisionOf(id)]; known && !l.dead[id] {
			l.dead[id] = true
			l.buried++
		}
	})
}

// delivery returns what id stands for, nil if that is not known.
func (l *ledger) delivery(id string) *keyhook.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.evaluated[revisionOf(id)] {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// revisionOf returns the revision that an id begins with, 0 if it has none.
func revisionOf(id string) int64 {
	head, _, _ := strings.Cut(id, "-")
	rev, err := strconv.ParseInt(head, 10, 64)
	if err != nil {
		return 0
	}
	return rev
}

// missing returns what of revision rev has neither arrived nor died, as
// "rule ⇒ sink", without what time may hold back. known is false until rev was
// evaluated.
func (l *ledger) missing(rev int64) (lost []string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ds, known := l.evaluated[rev]
	for _, d := range ds {
		if !l.acked[d.ID] && !l.dead[d.ID] && !l.waiting[d.ID] {
			lost = append(lost, d.Rule+" ⇒ "+d.Sink)
		}
	}
	return lost, known
}

// settle waits until nothing of rev is missing, or ctx ends. It returns what is,
// and whether rev was evaluated.
func (l *ledger) settle(ctx context.Context, rev int64) (missing []string, known bool) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		missing, known := l.missing(rev)
		if known && len(missing) == 0 {
			return nil, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return missing, known
		}
	}
}

// rules returns the rules that owe something for revision rev, sorted.
func (l *ledger) rules(rev int64) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, d := range l.evaluated[rev] {
		names = append(names, d.Rule)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// total returns how many deliveries have arrived, and how many became dead
// letters.
func (l *ledger) total() (arrived, buried int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrived, l.buried
}
