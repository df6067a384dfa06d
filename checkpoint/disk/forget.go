package disk

import (
	"encoding/binary"
	"fmt"

	"keyhook/checkpoint"
	"keyhook/checkpoint/record"
)

// sweep looks for deleted keys whose values need not be remembered any longer.
// It goes along with the commits of a shard, some records at each, and starts
// over whenever a range has seen enough further deletions: what it finds each
// time is in proportion to what it has to walk over.
type sweep struct {
	seen    map[string]uint64       // Forgotten at the last start, by the range's start
	pending []checkpoint.RangeState // still to be walked, the first from cursor on
	cursor  []byte
}

const (
	sweepEvery   = checkpoint.MaxRemembered / 8
	sweepAtLeast = 512 // records at a commit,
	sweepFactor  = 8   // or so many for each change of the mirror
)

// forget removes a part of the entries that are due. State is what is durable,
// and so is all that it judges by.
func (w *writer) forget(db *database, state *checkpoint.State, c *checkpoint.Commit) error {
	s := db.sweeps[w.shard]
	if s == nil || len(c.DropRanges) > 0 { // a range that takes over may remember more
		s = &sweep{seen: make(map[string]uint64)}
		db.sweeps[w.shard] = s
	}
	s.schedule(state)
	for budget := max(sweepAtLeast, sweepFactor*len(c.Mirror)); budget > 0 && len(s.pending) > 0; {
		visited, err := w.forgetRange(db, s, budget)
		if err != nil {
			return err
		}
		budget -= visited
	}
	return nil
}

// schedule adds the ranges that are due for a walk, once the last one is over.
func (s *sweep) schedule(state *checkpoint.State) {
	if len(s.pending) > 0 {
		return
	}
	for _, r := range state.Ranges {
		start := string(r.Range.Start)
		last, known := s.seen[start]
		if r.Forgotten < checkpoint.MaxRemembered || known && r.Forgotten-last < sweepEvery {
			continue
		}
		s.seen[start] = r.Forgotten
		s.pending = append(s.pending, r)
	}
}

// forgetRange goes on with the first range that is pending, and returns how
// many records it has looked at.
func (w *writer) forgetRange(db *database, s *sweep, budget int) (visited int, err error) {
	r := s.pending[0]
	b := within(w.shard, kindDeleted, r.Range)
	if s.cursor != nil {
		b.lower = s.cursor
	}
	done := true
	err = scan(db, b, func(key []byte, value func() ([]byte, error)) (bool, error) {
		if visited == budget {
			s.cursor, done = append([]byte(nil), key...), false
			return false, nil
		}
		visited++
		v, err := value()
		if err != nil {
			return false, err
		}
		return true, w.forgetKey(db, key, v, r.Forgotten)
	})
	if err != nil {
		return visited, err
	}
	if done {
		s.pending, s.cursor = s.pending[1:], nil
	}
	return visited, nil
}

// forgetKey removes the entry of a deleted key if it is due, and still the one
// that was deleted then.
func (w *writer) forgetKey(db *database, key, value []byte, forgotten uint64) error {
	if len(value) != 8 {
		return fmt.Errorf("%w: weight of a deleted key", record.ErrMalformed)
	}
	weight := binary.BigEndian.Uint64(value)
	if (&checkpoint.Entry{Deleted: true, Weight: weight}).Remembered(forgotten) {
		return nil
	}
	entry := named(nil, w.shard, kindMirror, key[prefixLen:])
	e, err := db.lookup(entry)
	if err != nil {
		return err
	}
	if e != nil && e.Deleted && e.Weight == weight {
		w.fail(w.batch.Delete(entry, nil))
	}
	w.fail(w.batch.Delete(key, nil))
	return w.err
}
