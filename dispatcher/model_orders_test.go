package dispatcher

import (
	"context"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
)

// orders is what somebody asks of the world: to replay, to discard, to purge.
type orders struct {
	replayed  map[string]bool // ids
	discarded map[string]bool // ids
	purged    map[string]bool // ids
	durable   map[string]bool // ids that were ever owed durably
	asked     []question      // purges of which the store was asked
}

// question is a purge between what the store says and what the machine does.
type question struct {
	id   string
	owed []checkpoint.Owed
}

func newOrders() orders {
	return orders{replayed: map[string]bool{}, discarded: map[string]bool{}, purged: map[string]bool{}, durable: map[string]bool{}}
}

// draw picks a dead letter that the store has.
func (w *world) letter() (checkpoint.DeadLetter, bool) {
	var all []checkpoint.DeadLetter
	for dl, err := range w.store.DeadLetters(context.Background(), 0, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		if dl.Delivery.Send != "story" {
			all = append(all, dl)
		}
	}
	if len(all) == 0 {
		return checkpoint.DeadLetter{}, false
	}
	return rapid.SampledFrom(all).Draw(w.t, "letter"), true
}

func (w *world) requeue() {
	dl, ok := w.letter()
	if !ok {
		return
	}
	if rapid.Bool().Draw(w.t, "it can be rendered by now") {
		dl.Delivery.Rejected = nil
	}
	if w.m.requeue(w.now, []Requeue{{dl.Number, dl.Delivery}}) == 1 {
		w.replayed[dl.Delivery.ID] = true
	}
	if n := w.m.requeue(w.now, []Requeue{{dl.Number, dl.Delivery}}); n != 0 {
		w.t.Fatalf("dead letter %d was replayed twice", dl.Number)
	}
	w.takeEnds()
}

func (w *world) discard() {
	dl, ok := w.letter()
	if !ok {
		return
	}
	if w.m.discard([]uint64{dl.Number}) == 1 {
		w.discarded[dl.Delivery.ID] = true
	}
}

// ask asks the store about a delivery, and the ones beside it.
func (w *world) ask() {
	var all []checkpoint.Admission
	for a, err := range w.store.Deliveries(context.Background(), 0, checkpoint.Ref{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return
	}
	a := rapid.SampledFrom(all).Draw(w.t, "delivery")
	ref := checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal}
	w.m.lookups++
	owed, err := w.store.Find(context.Background(), 0, []checkpoint.Ref{ref})
	if err != nil || len(owed) != 1 {
		w.t.Fatalf("%+v is not found: %v, %v", ref, owed, err)
	}
	w.asked = append(w.asked, question{a.Delivery.ID, owed})
}

func (w *world) purge() {
	if len(w.asked) == 0 {
		return
	}
	q := w.asked[0]
	w.asked = w.asked[1:]
	before := w.owed()
	n := w.m.purge(w.now, q.owed)
	w.m.lookups--
	if n == 1 {
		w.purged[q.id] = true
	}
	if after := w.owed(); after != before && after != before-int64(n) {
		w.t.Fatalf("a purge of %d left %d owed of %d", n, after, before)
	}
	if n := w.m.purge(w.now, q.owed); n != 0 {
		w.t.Fatalf("%s was purged twice", q.id)
	}
	w.takeEnds()
}

// checkOrders holds a success against what was asked for, and reports whether
// the order of changes has nothing to say about it.
func (w *world) checkOrders(d *keyhook.Delivery) bool {
	if d.Send == "story" {
		if !w.durable[d.ID] {
			w.t.Fatalf("the story %s was delivered before its dead letter was durable", d.ID)
		}
		return true
	}
	if !w.replayed[d.ID] {
		return false
	}
	if w.kept()[d.ID] {
		w.t.Fatalf("%s was replayed and delivered, and is still a dead letter", d.ID)
	}
	w.succeeded[d.ID] = true
	return true
}

func (w *world) resumeAll() {
	for _, s := range w.m.order {
		if s.paused || s.held {
			w.m.resume(s.name)
		}
	}
}

// kept returns the ids of the dead letters in the store.
func (w *world) kept() map[string]bool {
	ids := make(map[string]bool)
	for dl, err := range w.store.DeadLetters(context.Background(), 0, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		ids[dl.Delivery.ID] = true
	}
	return ids
}

// checkLetters holds the index of dead letters against what it counts.
func (w *world) checkLetters() {
	x := &w.m.letters
	var bytes int64
	kept := make(map[uint32]int64)
	for i, l := range x.all {
		if l.sink == gone {
			continue
		}
		if i < x.first {
			w.t.Fatalf("letter %d is kept before the first one", l.number)
		}
		kept[l.sink]++
		bytes += int64(l.size)
	}
	n := int64(0)
	for _, s := range w.m.order {
		if s.deadLetters != kept[s.number] {
			w.t.Fatalf("sink %s has %d dead letters, holds %d", s.name, s.deadLetters, kept[s.number])
		}
		n += s.deadLetters
	}
	if int64(x.kept) != n || x.bytes != bytes {
		w.t.Fatalf("%d letters of %d bytes, there are %d of %d", x.kept, x.bytes, n, bytes)
	}
	if w.running != nil || !w.m.pend.empty() {
		return
	}
	if state, err := w.store.Load(context.Background(), 0); err != nil || int64(sum(state.DeadLetters)) != n {
		w.t.Fatalf("the store has %v dead letters, the machine %d (%v)", state.DeadLetters, n, err)
	}
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
