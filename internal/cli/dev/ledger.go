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
	acked     map[string]bool               // ids that the inbox has accepted
	arrived   int                           // how many ever were
	dead      map[string]bool               // ids that became dead letters
	buried    int                           // how many ever did
	changed   chan struct{}                 // closed and replaced at each change
}

func newLedger() *ledger {
	return &ledger{
		evaluated: make(map[int64][]*keyhook.Delivery),
		acked:     make(map[string]bool),
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
		}
		l.evaluated[e.Revision] = append(l.evaluated[e.Revision], ds...)
		for len(l.order) > remembered {
			for _, d := range l.evaluated[l.order[0]] {
				delete(l.acked, d.ID)
				delete(l.dead, d.ID)
			}
			delete(l.evaluated, l.order[0])
			l.order = l.order[1:]
		}
	})
}

// ack notes that the inbox accepts id, and reports whether it does so for the
// first time.
func (l *ledger) ack(id string) (first bool) {
	l.update(func() {
		if _, known := l.evaluated[revisionOf(id)]; !known || l.acked[id] {
			return
		}
		l.acked[id] = true
		l.arrived++
		first = true
	})
	return first
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

// missing returns what of revision rev has neither arrived nor died: names of rules, out of
// those that matched and those in want. known is false until rev was evaluated.
func (l *ledger) missing(rev int64, want []string) (rules []string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ds, known := l.evaluated[rev]
	rules = slices.Clone(want)
	for _, d := range ds {
		at, ended := slices.Index(rules, d.Rule), l.acked[d.ID] || l.dead[d.ID]
		switch {
		case ended && at >= 0:
			rules = slices.Delete(rules, at, at+1)
		case !ended && at < 0:
			rules = append(rules, d.Rule)
		}
	}
	return rules, known
}

// settle waits until nothing of rev is missing, or ctx ends. It returns what is,
// and whether rev was evaluated.
func (l *ledger) settle(ctx context.Context, rev int64, want []string) (missing []string, known bool) {
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		missing, known := l.missing(rev, want)
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

// owes returns how many deliveries revision rev came to.
func (l *ledger) owes(rev int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.evaluated[rev])
}

// total returns how many deliveries have arrived, and how many became dead
// letters.
func (l *ledger) total() (arrived, buried int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.arrived, l.buried
}
