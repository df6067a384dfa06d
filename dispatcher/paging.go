package dispatcher

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

const (
	// maxLoadBytes is how much of one chain is read from disk at once at most.
	maxLoadBytes = 128 << 10
	// maxLoads is how many chains of a sink are on their way from disk at most.
	maxLoads = 32
	// maxReady is how many chains are ready when no more are read from disk.
	maxReady = 256
	// evictions bounds the work of making room for one delivery.
	evictions = 8
	// collapseAt is how many changes of one key wait on disk before a chain that
	// may be superseded is read, to keep only the newest.
	collapseAt = 16
)

// load is a chain to be read from disk.
type load struct {
	lane     *lane
	number   uint32 // of the lane in the store
	chain    uint64
	from     uint64
	below    uint64 // what was durable when the read was asked for
	maxBytes int
}

func (m *machine) maxLoad() int { return int(min(maxLoadBytes, m.budget/16)) }

// loadBytes is how much of one chain of s is read from disk at once: the head
// alone (Read returns one at least) while the sink takes nothing anyway.
func (m *machine) loadBytes(s *sink) int {
	if s.evidence.failures >= failingAttempts || s.breakerOpen() {
		return 1
	}
	return m.maxLoad()
}

// share is what each sink may hold when memory is short.
func (m *machine) share() int64 {
	owing := int64(0)
	for _, s := range m.order {
		if s.owed > 0 {
			owing++
		}
	}
	return m.budget / max(1, owing)
}

// room reports whether a new delivery to s may stay in memory, and moves others to
// disk for it if it must. A quarter is left to what comes back from disk, so
// that new deliveries never keep old ones out.
func (m *machine) room(t moment, s *sink, size int64) bool {
	if m.total+size <= m.budget/4*3 {
		return true
	}
	share := m.share() / 4 * 3
	if s.bytes+size <= share {
		m.evictFromLargest(t)
		return true
	}
	for range evictions {
		if !m.evictWaiting(t, s) {
			return false
		}
		if s.bytes+size <= share {
			return true
		}
	}
	return false
}

// evictFromLargest moves a little of the sink that holds most to disk.
func (m *machine) evictFromLargest(t moment) {
	var largest *sink
	for _, s := range m.order {
		if largest == nil || s.bytes > largest.bytes {
			largest = s
		}
	}
	for range evictions {
		if !m.evictWaiting(t, largest) && !m.evictReady(t, largest) {
			return
		}
	}
}

// evictWaiting moves one of the chains that wait longest to disk.
func (m *machine) evictWaiting(t moment, s *sink) bool {
	// The end of a heap's array is a leaf: not the latest, but late, and free
	// to remove.
	for i := len(s.waiting) - 1; i >= 0 && i >= len(s.waiting)-evictions; i-- {
		c := s.waiting[i]
		if m.clean(c) {
			heap.Remove(&s.waiting, i)
			m.cool(t, c, c.due)
			return true
		}
	}
	return false
}

// evictReady moves the chain that would be sent last of a lane to disk.
func (m *machine) evictReady(t moment, s *sink) bool {
	for range min(evictions, s.ring.Len()) {
		l := s.ring.PopFront()
		s.ring.PushBack(l)
		// The last one stays: a lane in the ring has something to send.
		if l.queue.len() < 2 {
			continue
		}
		if c, take := l.queue.last(); m.clean(c) {
			take()
			s.ready--
			m.cool(t, c, c.due)
			return true
		}
	}
	return false
}

// clean reports whether the store knows all of a chain that memory knows.
func (m *machine) clean(c *chain) bool {
	return c.head != nil && c.after <= m.durableSequence && c.tail.written && c.tail.d.Ordinal < m.durable &&
		!c.head.retried && c.head.retriedIn <= m.durableSequence
}

// cool leaves a chain on disk only.
func (m *machine) cool(t moment, c *chain, due instant) {
	cc := coldChain{id: c.id, from: c.coldFrom, last: c.coldLast, due: due, count: c.cold}
	if c.cold == 0 {
		cc.last = c.tail.d.Ordinal
	}
	if c.head != nil {
		cc.from = c.head.d.Ordinal
	}
	for c.head != nil {
		c.pop()
		cc.count++
	}
	l := c.lane
	delete(l.chains, c.id)
	l.cold.put(cc)
	l.sink.placeCold(l, t.now)
}

// nextLoads returns the chains to read from disk now: those that are due, as
// far as there is room, lanes taking turns.
func (m *machine) nextLoads(t moment) []load {
	loads := m.nextFetches()
	for _, s := range m.order {
		if !s.open() {
			continue
		}
		for tries := s.coldRing.Len(); tries > 0 && m.mayLoad(t, s); tries-- {
			l := s.coldRing.PopFront()
			l.inRing = false
			if l.cold.len() == 0 || l.cold.top().due > t.now {
				s.placeCold(l, t.now)
				continue
			}
			if l.cold.top().from >= m.durable {
				// Not yet written: the next commit brings it within reach.
				l.inRing = true
				s.coldRing.PushBack(l)
				continue
			}
			cc := l.cold.pop()
			s.placeCold(l, t.now)
			tries = max(tries, s.coldRing.Len()+1)
			l.chains[cc.id] = &chain{id: cc.id, lane: l, state: loading, cold: cc.count, coldFrom: cc.from, coldLast: cc.last, due: cc.due}
			s.loads++
			loads = append(loads, load{l, l.number, cc.id, cc.from, m.durable, m.loadBytes(s)})
		}
	}
	return loads
}

// mayLoad reports whether s has room for one more chain. Chains that wait make
// room for those that are due.
func (m *machine) mayLoad(t moment, s *sink) bool {
	if s.loads >= maxLoads || s.ready+s.loads >= max(maxReady, 8*s.cfg.Concurrency) {
		return false
	}
	for range evictions {
		coming := int64(s.loads+1) * s.loadSize
		if m.total+coming <= m.budget || s.bytes+coming <= m.share() || s.bytes == 0 && s.loads == 0 {
			return true
		}
		if !m.evictWaiting(t, s) {
			return false
		}
	}
	return false
}

// loaded takes what was read of a chain.
func (m *machine) loaded(t moment, r load, ds []*keyhook.Delivery) ([]load, error) {
	l := r.lane
	if r.number != l.number {
		return nil, m.fetched(t, r, ds)
	}
	s, c := l.sink, l.chains[r.chain]
	s.loads--
	if len(ds) > 0 {
		c.coldFrom = ds[len(ds)-1].Ordinal + 1
		ds = m.unpurged(l, c.id, ds)
		if len(ds) == 0 && c.cold > 0 && c.coldFrom < m.durable {
			s.loads++
			return []load{{l, l.number, c.id, c.coldFrom, m.durable, m.loadBytes(s)}}, nil
		}
	} else if c.cold > 0 && c.coldLast >= r.below {
		// The rest was not yet durable. By now it may be.
		c.coldFrom = r.below
		m.afterLoad(t, c)
		return nil, nil
	}
	if len(ds) == 0 && c.cold == 0 || len(ds) == 0 && c.coldFrom >= m.durable {
		m.afterLoad(t, c)
		return nil, nil
	}
	if len(ds) == 0 || uint32(len(ds)) > c.cold { //nolint:gosec // a page
		return nil, fmt.Errorf("lane %d (rule %q, send %q, sink %q): the store returned %d deliveries of a chain that is owed %d",
			l.number, l.name.rule, l.name.send, l.name.sink, len(ds), c.cold)
	}
	var size int64
	after := m.barred[place{l.number, c.id}]
	for _, d := range ds {
		d.Rule, d.Send, d.Sink = l.name.rule, l.name.send, l.name.sink
		it := &item{
			d: d, lane: l, chain: c.id, size: int64(d.Size()), retry: d.Retry, written: true, after: after,
			admitted: instant(min(d.Admitted.Sub(m.start), time.Duration(t.now))),
		}
		size += it.size
		c.push(it)
	}
	s.loadSize += (size - s.loadSize) / 8
	c.cold -= uint32(len(ds)) //nolint:gosec // a page
	if ds[0].OnFailure == keyhook.Supersede {
		m.collapse(c)
		// The newest change may still be on disk; what is sent must be it.
		if c.cold > 0 && c.coldFrom < m.durable {
			s.loads++
			return []load{{l, l.number, c.id, c.coldFrom, m.durable, m.loadBytes(s)}}, nil
		}
	}
	m.afterLoad(t, c)
	return nil, nil
}

// unpurged leaves out what was purged since the read was asked for.
func (m *machine) unpurged(l *lane, chain uint64, ds []*keyhook.Delivery) []*keyhook.Delivery {
	if len(m.purged) == 0 {
		return ds
	}
	return slices.DeleteFunc(ds, func(d *keyhook.Delivery) bool {
		return m.purged[checkpoint.Ref{Lane: l.number, Chain: chain, Ordinal: d.Ordinal}] > 0
	})
}

// afterLoad goes on with a chain of which as much was read as is needed.
func (m *machine) afterLoad(t moment, c *chain) {
	switch {
	case c.head == nil:
		c.due = t.now
		m.advance(t, c)
	case c.tail.d.OnFailure == keyhook.Supersede:
		// It may have been read only to collapse it.
		m.rest(t, c)
	default:
		// It was read because it was due, by a clock that does not jump.
		c.lane.sink.makeReady(c, t.now)
	}
}

// collapse keeps only the newest of each key in a chain that was read from disk,
// and what was put behind it as a replay.
func (m *machine) collapse(c *chain) {
	pending := make(map[string][]*item)
	var all []*item
	for c.head != nil {
		it := c.pop()
		all = append(all, it)
		key := string(it.d.ChainKey())
		if it.d.OnFailure == keyhook.Supersede {
			for _, old := range pending[key] {
				it.retry.Interval, it.retry.Due = old.retry.Interval, old.retry.Due
				m.retouch(it)
				m.settle(old, keyhook.Superseded, "", "")
				c.after = m.sequence + 1
			}
			pending[key] = nil
		}
		pending[key] = append(pending[key], it)
	}
	for _, it := range all {
		if !it.settled {
			c.push(it)
		}
	}
}
