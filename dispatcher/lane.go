package dispatcher

import (
	"container/heap"

	"github.com/cespare/xxhash/v2"
	"github.com/gammazero/deque"

	"keyhook"
	"keyhook/checkpoint"
)

// item is a delivery in memory.
type item struct {
	d     *keyhook.Delivery // never changed after admission: sinks read it
	retry keyhook.Retry
	lane  *lane
	chain uint64
	next  *item // behind it in its chain
	size  int64
	// admitted is the time of admission; before 0 for what an earlier process
	// admitted.
	admitted instant

	settled bool // before it was ever written
	written bool // in a commit that is durable or on its way
	retried bool // its retry state waits for the next commit
	// retriedIn is the last commit that holds its retry state.
	retriedIn uint64
	// after is the commit that must be durable before it may be sent.
	after uint64
	purge bool // in flight, and not to be tried again
	timed bool // in the timed lane: not owed yet, or a marker
	// attempted tells the breaker how the attempt in flight ended.
	attempted func(verdict)
}

func (it *item) ref() checkpoint.Ref {
	ref := checkpoint.Ref{Lane: it.lane.number, Chain: it.chain, Ordinal: it.d.Ordinal}
	if it.timed {
		ref.Lane = it.lane.timed
	}
	return ref
}

func (it *item) owed() checkpoint.Owed {
	return checkpoint.Owed{Ref: it.ref(), Admitted: it.d.Admitted, Retry: it.retry}
}

// snapshot returns the delivery with its retry state, for a commit that is
// written while the machine goes on.
func (it *item) snapshot() *keyhook.Delivery {
	d := *it.d
	d.Retry = it.retry
	d.Rule, d.Send, d.Sink = it.lane.name.rule, it.lane.name.send, it.lane.name.sink // it may have been renamed
	return &d
}

type chainState uint8

const (
	ready   chainState = iota // its head may be sent
	sending                   // its head is being sent
	waiting                   // its head is due later
	loading                   // its head is on the way from disk
	parked                    // it waits for a commit
)

// chain is a queue of which at least the head is in memory, or on its way
// there. What does not fit is on disk, behind all that is in memory.
type chain struct {
	id         uint64
	lane       *lane
	head, tail *item
	state      chainState
	due        instant // when ready or waiting: since or until when
	place      int     // in the sink's heap of waiting chains
	cold       uint32  // how many are on disk only
	coldFrom   uint64  // no ordinal of those is lower
	coldLast   uint64  // the highest ordinal of those
	size       int64
	// after is the commit that says how the change before the head was given
	// up. Until it is durable a crash would bring that change back, behind the
	// head if the head were sent.
	after uint64
}

// waitsFor returns the commit that must be durable before the head may be sent.
func (c *chain) waitsFor() uint64 {
	if c.head == nil {
		return c.after
	}
	return max(c.after, c.head.after)
}

func (c *chain) push(it *item) {
	if c.tail == nil {
		c.head = it
	} else {
		c.tail.next = it
	}
	c.tail = it
	c.size += it.size
	c.lane.sink.grow(it.size)
}

func (c *chain) pop() *item {
	it := c.head
	c.head = it.next
	if c.head == nil {
		c.tail = nil
	}
	it.next = nil
	c.size -= it.size
	c.lane.sink.grow(-it.size)
	return it
}

// lane is what one send of one rule owes to one sink.
type lane struct {
	number uint32
	name   laneName
	sink   *sink
	chains map[uint64]*chain // in memory
	queue  queue
	cold   coldIndex

	timed  uint32 // number of the lane of what waits for its time; 0: there is none yet
	timers int
	// What the rules say, if they are known.
	known   bool
	spans   keyhook.Timing
	watches []keyhook.Range // nil: it may be about any

	// The lane is in the sink's ring of lanes to load from, or in its heap of
	// lanes whose cold chains are due later, or in neither.
	inRing bool
	parked bool
	place  int
}

// queue holds the chains of a lane that are ready: those whose head was never
// tried apart from those whose head was. The latter get one turn in four as long
// as there are both: thousands of keys that always fail stand in nobody's way,
// and are not forgotten either.
type queue struct {
	fresh, again deque.Deque[*chain]
	turn         uint8
}

func (q *queue) len() int { return q.fresh.Len() + q.again.Len() }

func (q *queue) push(c *chain) {
	if c.head != nil && c.head.retry.Attempts > 0 {
		q.again.PushBack(c)
	} else {
		q.fresh.PushBack(c)
	}
}

// popFresh takes one that was never tried, if there is one.
func (q *queue) popFresh() *chain {
	if q.fresh.Len() == 0 {
		return nil
	}
	return q.fresh.PopFront()
}

// pop takes the next one to send. The queue is not empty.
func (q *queue) pop() *chain {
	q.turn++
	if q.again.Len() > 0 && (q.fresh.Len() == 0 || q.turn%4 == 0) {
		return q.again.PopFront()
	}
	return q.fresh.PopFront()
}

// last returns the one that would be sent last, and how to take it out.
func (q *queue) last() (*chain, func() *chain) {
	if q.again.Len() > 0 {
		return q.again.Back(), q.again.PopBack
	}
	return q.fresh.Back(), q.fresh.PopBack
}

type laneName struct{ rule, send, sink string }

// chainID tells the keys of a lane apart. Two keys with one id share a chain:
// they wait for each other, which keeps every promise.
func chainID(d *keyhook.Delivery) uint64 {
	if d.Order == keyhook.OrderNone {
		return d.Ordinal
	}
	return keyHash(d)
}

func keyHash(d *keyhook.Delivery) uint64 {
	return xxhash.Sum64(d.ChainKey())
}

// waitingHeap orders the waiting chains of a sink by due time.
type waitingHeap []*chain

var _ heap.Interface = (*waitingHeap)(nil)

func (h waitingHeap) Len() int           { return len(h) }
func (h waitingHeap) Less(i, j int) bool { return h[i].due < h[j].due }
func (h waitingHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *waitingHeap) Push(x any) {
	if c, ok := x.(*chain); ok {
		c.place = len(*h)
		*h = append(*h, c)
	}
}

func (h *waitingHeap) Pop() any {
	n := len(*h) - 1
	c := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return c
}

// parkedHeap orders the lanes of a sink by when their first cold chain is due.
type parkedHeap []*lane

var _ heap.Interface = (*parkedHeap)(nil)

func (h parkedHeap) Len() int           { return len(h) }
func (h parkedHeap) Less(i, j int) bool { return h[i].cold.top().due < h[j].cold.top().due }
func (h parkedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *parkedHeap) Push(x any) {
	if l, ok := x.(*lane); ok {
		l.place = len(*h)
		*h = append(*h, l)
	}
}

func (h *parkedHeap) Pop() any {
	n := len(*h) - 1
	l := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return l
}
