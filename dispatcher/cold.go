package dispatcher

import "container/heap"

// instant is a moment of this process, in nanoseconds of its monotonic clock.
type instant int64

// coldChain is what stays in memory of a chain that is on disk only. It holds
// no pointers, so that a million of them cost the garbage collector nothing.
type coldChain struct {
	id    uint64
	from  uint64 // no ordinal of it is lower
	last  uint64 // ordinal of the newest
	due   instant
	count uint32
	place int32 // in the heap
}

// coldIndex holds the cold chains of a lane by id and by due time. It costs
// about 60 bytes a chain, however long the chain is.
type coldIndex struct {
	slots map[uint64]int32
	slab  []coldChain
	free  []int32
	heap  coldHeap
}

func (x *coldIndex) len() int { return len(x.heap.order) }

// grow puts one more delivery at the end of chain id and returns how many
// there are now, 0 if the chain is not cold.
func (x *coldIndex) grow(id, ordinal uint64) uint32 {
	slot, ok := x.slots[id]
	if !ok {
		return 0
	}
	x.slab[slot].count++
	x.slab[slot].last = ordinal
	return x.slab[slot].count
}

// hasten makes a cold chain due at the given moment, if it was due later.
func (x *coldIndex) hasten(id uint64, due instant) {
	slot, ok := x.slots[id]
	if !ok || x.slab[slot].due <= due {
		return
	}
	x.slab[slot].due = due
	heap.Fix(&x.heap, int(x.slab[slot].place))
}

// put adds a chain that is not yet cold.
func (x *coldIndex) put(c coldChain) {
	if x.slots == nil {
		x.slots = make(map[uint64]int32)
		x.heap.index = x
	}
	var slot int32
	if n := len(x.free); n > 0 {
		slot, x.free = x.free[n-1], x.free[:n-1]
		x.slab[slot] = c
	} else {
		slot = int32(len(x.slab)) //nolint:gosec // a lane of two thousand million keys does not fit etcd
		x.slab = append(x.slab, c)
	}
	x.slots[c.id] = slot
	heap.Push(&x.heap, slot)
}

// top returns the chain that is due first. The index is not empty.
func (x *coldIndex) top() *coldChain { return &x.slab[x.heap.order[0]] }

// pop removes and returns the chain that is due first.
func (x *coldIndex) pop() coldChain { return x.remove(x.heap.order[0]) }

func (x *coldIndex) remove(slot int32) coldChain {
	heap.Remove(&x.heap, int(x.slab[slot].place))
	c := x.slab[slot]
	delete(x.slots, c.id)
	if x.len() == 0 {
		// A map never shrinks: an outage that is over gives its memory back.
		*x = coldIndex{}
		return c
	}
	x.free = append(x.free, slot)
	return c
}

// coldHeap orders slots by due time, then by age.
type coldHeap struct {
	index *coldIndex
	order []int32
}

func (h *coldHeap) Len() int { return len(h.order) }

func (h *coldHeap) Less(i, j int) bool {
	a, b := &h.index.slab[h.order[i]], &h.index.slab[h.order[j]]
	if a.due != b.due {
		return a.due < b.due
	}
	return a.from < b.from
}

func (h *coldHeap) Swap(i, j int) {
	h.order[i], h.order[j] = h.order[j], h.order[i]
	h.index.slab[h.order[i]].place = int32(i) //nolint:gosec // see put
	h.index.slab[h.order[j]].place = int32(j) //nolint:gosec // see put
}

func (h *coldHeap) Push(x any) {
	if slot, ok := x.(int32); ok {
		h.index.slab[slot].place = int32(len(h.order)) //nolint:gosec // see put
		h.order = append(h.order, slot)
	}
}

func (h *coldHeap) Pop() any {
	n := len(h.order) - 1
	slot := h.order[n]
	h.order = h.order[:n]
	return slot
}
