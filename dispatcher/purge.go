package dispatcher

import (
	"container/heap"

	"keyhook"
	"keyhook/checkpoint"
)

// place names a chain, in memory or on disk.
type place struct {
	lane  uint32
	chain uint64
}

// bar makes what enters memory of a chain from now on wait for the next commit:
// it says that an earlier change of the chain was given up. Were the later one
// sent before, a crash would bring the earlier one back behind it.
func (m *machine) bar(p place) {
	if m.barred == nil {
		m.barred = make(map[place]uint64)
	}
	m.barred[p] = m.sequence + 1
}

// unbar forgets the bars that are durable.
func (m *machine) unbar() {
	for p, sequence := range m.barred {
		if sequence <= m.durableSequence {
			delete(m.barred, p)
		}
	}
	if len(m.barred) == 0 {
		m.barred = nil
	}
}

// purge ends deliveries that the store says are owed, and returns how many
// still were. One in flight is purged when its attempt ends without success.
func (m *machine) purge(t moment, all []checkpoint.Owed) (n int) {
	for i := range all {
		if m.purgeOne(t, &all[i]) {
			n++
		}
	}
	return n
}

func (m *machine) purgeOne(t moment, o *checkpoint.Owed) bool {
	if l := m.timedLanes[o.Lane]; l != nil {
		return m.purgeHeld(t, l, o)
	}
	l := m.numbers[o.Lane]
	if l == nil {
		return false
	}
	c := l.chains[o.Chain]
	if c == nil {
		return m.purgeCold(t, l, o)
	}
	var before *item
	for it := c.head; it != nil && it.d.Ordinal <= o.Ordinal; before, it = it, it.next {
		if it.d.Ordinal != o.Ordinal {
			continue
		}
		if it == c.head && c.state == sending {
			purged := it.purge
			it.purge = true
			return !purged
		}
		c.unlink(before, it)
		m.settle(it, keyhook.Purged, "", "")
		c.after = m.sequence + 1
		m.bar(place{l.number, c.id})
		if before == nil && c.state == waiting {
			heap.Remove(&l.sink.waiting, c.place)
			c.due = t.now
			m.park(c)
		}
		return true
	}
	if c.cold == 0 || o.Ordinal < c.coldFrom || o.Ordinal > c.coldLast || m.purged[o.Ref] > 0 {
		return false
	}
	c.cold--
	m.purgedOnDisk(l, o)
	return true
}

// purgeCold ends a delivery of a chain that is on disk only.
func (m *machine) purgeCold(t moment, l *lane, o *checkpoint.Owed) bool {
	if m.purged[o.Ref] > 0 || !l.cold.shrink(o.Chain, o.Ordinal) {
		return false
	}
	l.sink.placeCold(l, t.now)
	m.purgedOnDisk(l, o)
	return true
}

// purgedOnDisk settles a delivery that is not in memory. Until that is durable,
// and every read of its chain that was asked for before has ended, it is passed
// over by those reads.
func (m *machine) purgedOnDisk(l *lane, o *checkpoint.Owed) {
	if m.purged == nil {
		m.purged = make(map[checkpoint.Ref]uint64)
	}
	m.purged[o.Ref] = m.sequence + 1
	m.bar(place{o.Lane, o.Chain})
	s := l.sink
	s.owed--
	s.ages.remove(o.Admitted.Unix())
	m.pend.settled = append(m.pend.settled, o.Ref)
	m.ends = append(m.ends, end{lane: l, outcome: keyhook.Purged})
}

// forgetPurged forgets what no read can find any more.
func (m *machine) forgetPurged() {
	if m.lookups > 0 {
		return // somebody asks the store at this moment what to purge
	}
	for ref, sequence := range m.purged {
		if sequence > m.durableSequence {
			continue
		}
		if l := m.numbers[ref.Lane]; l != nil {
			if c := l.chains[ref.Chain]; c != nil && c.state == loading {
				continue
			}
		}
		delete(m.purged, ref)
	}
	if len(m.purged) == 0 {
		m.purged = nil
	}
}

// unlink takes it out of the chain, where it is behind before; nil: the head.
func (c *chain) unlink(before, it *item) {
	if before == nil {
		c.pop()
		return
	}
	before.next = it.next
	if c.tail == it {
		c.tail = before
	}
	it.next = nil
	c.size -= it.size
	c.lane.sink.grow(-it.size)
}

// shrink takes one delivery out of a chain, which goes with its last one. It
// reports false if there is no such chain, or the delivery cannot be in it.
func (x *coldIndex) shrink(id, ordinal uint64) bool {
	slot, ok := x.slots[id]
	if !ok || ordinal < x.slab[slot].from || ordinal > x.slab[slot].last {
		return false
	}
	if x.slab[slot].count--; x.slab[slot].count == 0 {
		x.remove(slot)
	}
	return true
}
