package checkpointtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// Generator makes a random history of commits of shard 0, all of them valid and
// in sequence, that uses everything a commit can do. Deleted keys weigh little:
// none is ever forgotten.
type Generator struct {
	rng      *rand.Rand
	sequence uint64
	ordinal  uint64
	letter   uint64
	revision int64
	ranges   map[string]checkpoint.RangeState // by start: a letter, which is a range of its own
	lanes    map[uint32]bool
	lane     uint32
	owed     map[checkpoint.Ref]bool
	dead     []uint64 // numbers of dead letters that are kept
}

// NewGenerator returns a generator at its beginning.
func NewGenerator(rng *rand.Rand) *Generator {
	return &Generator{
		rng: rng, ordinal: 1, letter: 1, ranges: make(map[string]checkpoint.RangeState),
		lanes: make(map[uint32]bool), owed: make(map[checkpoint.Ref]bool),
	}
}

const generatedSinks = 3

// Next returns the next commit.
func (g *Generator) Next() checkpoint.Commit {
	g.sequence++
	c := checkpoint.Commit{Term: 1 + g.sequence/10, Sequence: g.sequence}
	if g.rng.IntN(10) == 0 {
		c.Identity = &checkpoint.Identity{Source: fmt.Sprint("/etcd/", g.sequence), ClusterID: g.rng.Uint64(), Epoch: g.sequence}
	}
	g.nextRanges(&c)
	g.nextMirror(&c)
	g.nextLanes(&c)
	g.nextDeliveries(&c)
	if g.rng.IntN(4) == 0 {
		s := checkpoint.SinkState{Name: fmt.Sprint("sink", g.rng.IntN(generatedSinks))}
		if g.rng.IntN(2) == 0 {
			s.Held, s.Reason, s.Since, s.Fingerprint = true, "410 Gone", noon, g.text(10)
		}
		if g.rng.IntN(2) == 0 {
			s.Paused, s.PausedSince = true, noon
		}
		c.Sinks = append(c.Sinks, s)
	}
	c.NextOrdinal = g.ordinal
	return c
}

func (g *Generator) nextRanges(c *checkpoint.Commit) {
	for _, start := range []string{"a", "b", "c", "d"} {
		r, there := g.ranges[start]
		switch n := g.rng.IntN(20); {
		case !there && n < 6:
			r = checkpoint.RangeState{Range: keyhook.Prefix([]byte(start)), Seed: &checkpoint.Seed{Revision: g.revision, Emit: n == 0}}
		case there && n == 0:
			c.DropRanges = append(c.DropRanges, r.Range)
			delete(g.ranges, start)
			continue
		case there && n < 10:
			g.revision++
			r.Position = keyhook.Position{Next: g.revision, Admitted: n}
			r.Seed, r.Forgotten = nil, r.Forgotten+uint64(n)
			r.Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: []byte(start), Revision: g.revision, ValueHash: g.rng.Uint64()}
			if r.Repair = nil; n == 1 {
				r.Epoch++
				r.Repair = &checkpoint.Repair{Reason: keyhook.GapRolledBack, From: g.revision, At: noon, Cursor: []byte(start), Whole: true, Deleted: 1}
			}
		default:
			continue
		}
		g.ranges[start] = r
		c.Ranges = append(c.Ranges, r)
	}
}

func (g *Generator) nextMirror(c *checkpoint.Commit) {
	for _, start := range slices.Sorted(maps.Keys(g.ranges)) {
		for range g.rng.IntN(4) {
			g.revision++
			ch := put(fmt.Sprint(start, g.rng.IntN(10)), g.text(2000), g.revision)
			switch g.rng.IntN(4) {
			case 0:
				ch.Entry.Deleted, ch.Entry.Weight = true, g.ranges[start].Forgotten
			case 1:
				ch.Entry = nil
			}
			c.Mirror = append(c.Mirror, ch)
		}
	}
}

func (g *Generator) nextLanes(c *checkpoint.Commit) {
	for _, lane := range slices.Sorted(maps.Keys(g.lanes)) {
		if g.rng.IntN(30) == 0 {
			c.DropLanes = append(c.DropLanes, lane)
			delete(g.lanes, lane)
			maps.DeleteFunc(g.owed, func(r checkpoint.Ref, _ bool) bool { return r.Lane == lane })
		}
	}
	if len(g.lanes) == 0 || g.rng.IntN(10) == 0 {
		g.lane++
		g.lanes[g.lane] = true
		c.Lanes = append(c.Lanes, checkpoint.Lane{
			Number: g.lane, Rule: fmt.Sprint("rule", g.lane), Send: "send", Sink: fmt.Sprint("sink", g.lane%generatedSinks),
		})
	}
}

func (g *Generator) nextDeliveries(c *checkpoint.Commit) {
	for _, r := range slices.SortedFunc(maps.Keys(g.owed), func(a, b checkpoint.Ref) int { return int(a.Ordinal) - int(b.Ordinal) }) {
		switch g.rng.IntN(6) {
		case 0:
			c.Settled = append(c.Settled, r)
			delete(g.owed, r)
		case 1:
			c.Settled = append(c.Settled, r)
			delete(g.owed, r)
			c.Dead = append(c.Dead, g.deadLetter(r))
		case 2, 3:
			c.Retried = append(c.Retried, checkpoint.Owed{Ref: r, Admitted: noon, Retry: keyhook.Retry{
				Attempts: g.rng.IntN(9), Interval: time.Second, Due: noon.Add(time.Duration(g.rng.IntN(1e9))), Error: g.text(100),
			}})
		}
	}
	for range g.rng.IntN(3) {
		if len(g.dead) > 0 {
			i := g.rng.IntN(len(g.dead))
			c.DropDead = append(c.DropDead, g.dead[i])
			g.dead = slices.Delete(g.dead, i, i+1)
		}
	}
	for _, d := range c.Dead {
		if !slices.Contains(c.DropDead, d.Number) {
			g.dead = append(g.dead, d.Number)
		}
	}
	lanes := slices.Sorted(maps.Keys(g.lanes))
	for range g.rng.IntN(8) {
		d := delivery(g.ordinal)
		d.Message.Body = []byte(g.text(4000))
		a := checkpoint.Admission{Lane: lanes[g.rng.IntN(len(lanes))], Chain: g.rng.Uint64N(4), Delivery: d}
		g.ordinal++
		g.owed[checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: d.Ordinal}] = true
		c.Admitted = append(c.Admitted, a)
	}
}

func (g *Generator) deadLetter(r checkpoint.Ref) checkpoint.DeadLetter {
	d := delivery(r.Ordinal)
	d.Sink = fmt.Sprint("sink", g.rng.IntN(generatedSinks))
	g.letter++
	return checkpoint.DeadLetter{Number: g.letter, DeadLetter: keyhook.DeadLetter{
		Delivery: d, Reason: keyhook.ReasonRejected, Error: g.text(50), FailedAt: noon,
	}}
}

// text returns up to most bytes that do not compress.
func (g *Generator) text(most int) string {
	b := make([]byte, 1+g.rng.IntN(most))
	for i := range b {
		b[i] = byte(g.rng.Uint32())
	}
	return string(b)
}
