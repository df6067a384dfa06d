package dispatcher

import (
	"maps"
	"slices"

	"keyhook"
	"keyhook/checkpoint"
)

// pending gathers what the next commit will say.
type pending struct {
	fresh    []*item          // admitted since the last cut
	timed    map[uint64]*item // of fresh, what waits for its time, by ordinal
	retried  []*item
	remarked []checkpoint.Owed
	settled  []checkpoint.Ref
	dead     []checkpoint.DeadLetter
	dropDead []uint64
	sinks    map[string]checkpoint.SinkState
	identity *checkpoint.Identity
	ranges   []checkpoint.RangeState
	drops    []keyhook.Range
	lanes    []checkpoint.Lane
	dropped  []uint32 // lanes
	mirror   []checkpoint.MirrorChange
	mirrorAt map[string]int // key → its place in mirror: only the last change counts
	durable  []func()
	bytes    int64
}

func (p *pending) empty() bool {
	return len(p.fresh) == 0 && len(p.retried) == 0 && len(p.remarked) == 0 && len(p.settled) == 0 && len(p.dead) == 0 &&
		p.identity == nil && len(p.ranges) == 0 && len(p.drops) == 0 && len(p.lanes) == 0 &&
		len(p.dropDead) == 0 && len(p.sinks) == 0 && len(p.dropped) == 0 && len(p.mirror) == 0 && len(p.durable) == 0
}

// add takes over the parts of a batch that say where the reading stands.
func (p *pending) add(b *Batch) {
	for _, c := range b.Mirror {
		p.bytes += int64(len(c.Key))
		if c.Entry != nil {
			p.bytes += int64(len(c.Entry.Value))
		}
		if i, ok := p.mirrorAt[string(c.Key)]; ok {
			p.mirror[i] = c
			continue
		}
		if p.mirrorAt == nil {
			p.mirrorAt = make(map[string]int)
		}
		p.mirrorAt[string(c.Key)] = len(p.mirror)
		p.mirror = append(p.mirror, c)
	}
	for _, r := range b.Drop {
		p.drop(r)
	}
	for _, st := range b.States {
		p.setRange(st)
	}
	if b.Durable != nil {
		p.durable = append(p.durable, b.Durable)
	}
}

func (p *pending) setRange(st checkpoint.RangeState) {
	for i := range p.ranges {
		if p.ranges[i].Range.Equal(st.Range) {
			p.ranges[i] = st
			return
		}
	}
	p.ranges = append(p.ranges, st)
}

// drop forgets what was to be said of a range: a commit drops before it sets.
func (p *pending) drop(r keyhook.Range) {
	kept := p.ranges[:0]
	for _, st := range p.ranges {
		if !st.Range.Equal(r) {
			kept = append(kept, st)
		}
	}
	p.ranges = kept
	p.drops = append(p.drops, r)
}

// maxKept bounds the room that is kept from one commit to the next.
const maxKept = 16 << 10

// next returns what gathers the commit behind p, with the room of what p keeps to
// itself.
func (p *pending) next() pending {
	n := pending{fresh: p.fresh[:0], mirrorAt: p.mirrorAt}
	if cap(p.fresh) > maxKept {
		n.fresh = nil
	}
	if len(p.mirror) > maxKept {
		n.mirrorAt = nil
	}
	clear(n.mirrorAt)
	return n
}

// cut turns what is pending into a commit, nil if there is nothing to say. The
// commit shares nothing that the machine still changes.
func (m *machine) cut() *checkpoint.Commit {
	if m.pend.empty() {
		return nil
	}
	p := m.pend
	m.pend = p.next()
	defer clear(p.fresh) // the next one has its room
	m.sequence++
	m.cutOrdinal = m.nextOrdinal
	m.cutBytes, m.callbacks = p.bytes, p.durable

	c := &checkpoint.Commit{
		Shard: m.shard, Term: m.term, Sequence: m.sequence, NextOrdinal: m.nextOrdinal,
		Identity: p.identity, Ranges: p.ranges, DropRanges: p.drops, Mirror: p.mirror,
		Lanes: p.lanes, DropLanes: p.dropped, Settled: p.settled, Dead: p.dead, DropDead: p.dropDead,
	}
	for _, name := range slices.Sorted(maps.Keys(p.sinks)) {
		c.Sinks = append(c.Sinks, p.sinks[name])
	}
	for _, it := range p.fresh {
		if it.settled {
			continue
		}
		it.written = true
		c.Admitted = append(c.Admitted, checkpoint.Admission{Lane: it.ref().Lane, Chain: it.chain, Delivery: it.snapshot()})
	}
	c.Retried = p.remarked
	for _, it := range p.retried {
		it.retried = false
		if it.settled {
			continue
		}
		it.retriedIn = m.sequence
		c.Retried = append(c.Retried, it.owed())
	}
	return c
}

// committed says that the last cut is durable.
func (m *machine) committed(t moment) {
	m.durable, m.durableSequence = m.cutOrdinal, m.sequence
	m.cutBytes = 0
	for _, f := range m.callbacks {
		f()
	}
	m.callbacks = nil
	m.unbar()
	m.forgetPurged()
	m.unpark(t)
}

// uncommitted returns the bytes that were admitted and are not durable.
func (m *machine) uncommitted() int64 { return m.pend.bytes + m.cutBytes }
