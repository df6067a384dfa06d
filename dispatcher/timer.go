package dispatcher

import (
	"container/heap"
	"math"

	"keyhook"
	"keyhook/checkpoint"
)

const (
	never = instant(math.MaxInt64)
	past  = instant(math.MinInt64)
)

// timer is what is known of a chain whose sends ask for time: a delivery that is
// not owed yet, a marker, or both. Both are on disk, in the timed lane beside the
// one that they are about; a delivery that is due becomes owed by being admitted
// to that one anew. It costs about 150 bytes.
//
// Unlike chains, two keys of one hash must not share a timer. Hashes have 64
// bits: of a million keys, one pair shares one with a probability of 3e-8.
type timer struct {
	place place

	held  uint64        // ordinal of the delivery that waits; 0: none does
	stage keyhook.Stage // of it
	gone  bool          // of it: its key was deleted since

	mark   uint64 // ordinal of the marker; 0: there is none
	stands bool   // what went out still holds

	window instant // the end of the quiet time; one that is over does not count
	due    instant // when something happens
	at     int     // in the heap; -1: nothing happens by time alone

	// The delivery is due, and waits for what is said of its key to be read; or
	// for itself to be read from disk.
	overdue, loading bool
	listed           bool // among those that are overdue, or were
}

// timers are the timers of all lanes.
type timers struct {
	of   map[place]*timer
	heap timerHeap
}

// put returns the timer of p, a new one if there is none.
func (x *timers) put(l *lane, p place) *timer {
	if tm := x.of[p]; tm != nil {
		return tm
	}
	if x.of == nil {
		x.of = make(map[place]*timer)
	}
	tm := &timer{place: p, window: past, due: never, at: -1}
	x.of[p] = tm
	l.timers++
	return tm
}

func (x *timers) remove(l *lane, tm *timer) {
	x.unplan(tm)
	tm.overdue, tm.loading = false, false
	delete(x.of, tm.place)
	l.timers--
	if len(x.of) == 0 {
		*x = timers{} // maps never shrink
	}
}

// plan makes due the moment at which something happens; never: nothing does.
func (x *timers) plan(tm *timer, due instant) {
	tm.due = due
	switch {
	case due == never:
		x.unplan(tm)
	case tm.at >= 0:
		heap.Fix(&x.heap, tm.at)
	default:
		heap.Push(&x.heap, tm)
	}
}

func (x *timers) unplan(tm *timer) {
	if tm.at >= 0 {
		heap.Remove(&x.heap, tm.at)
	}
}

// wake returns when something happens first.
func (x *timers) wake() (at instant, ok bool) {
	if len(x.heap) == 0 {
		return 0, false
	}
	return x.heap[0].due, true
}

// wakeHeld returns when a delivery is due first.
func (x *timers) wakeHeld() (at instant, ok bool) {
	for _, tm := range x.heap {
		if tm.held != 0 && (!ok || tm.due < at) {
			at, ok = tm.due, true
		}
	}
	return at, ok
}

// timerHeap orders timers by when they are due, then by age.
type timerHeap []*timer

var _ heap.Interface = (*timerHeap)(nil)

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].held < h[j].held
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *timerHeap) Push(x any) {
	if tm, ok := x.(*timer); ok {
		tm.at = len(*h)
		*h = append(*h, tm)
	}
}

func (h *timerHeap) Pop() any {
	n := len(*h) - 1
	tm := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	tm.at = -1
	return tm
}

// timedRef is where what belongs to a timer is kept.
func (l *lane) timedRef(tm *timer, ordinal uint64) checkpoint.Ref {
	return checkpoint.Ref{Lane: l.timed, Chain: tm.place.chain, Ordinal: ordinal}
}
