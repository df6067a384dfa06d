package checkpoint

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"keyhook"
)

// After returns the state that c leaves behind: the decisions of
// [Store.Commit], without its I/O, for backends to share. A sequence that is
// already durable gives s itself, an older term ErrFenced, a commit that breaks
// the contract ErrInvalid. s is left as it is; the new state shares with it
// what did not change. The sinks of the dead letters that c drops are asked of
// sinkOf: false for a number of which there is none.
func (s *State) After(c *Commit, sinkOf func(number uint64) (sink string, found bool, err error)) (*State, error) {
	switch {
	case c.Term < s.Term:
		return nil, fmt.Errorf("%w: its term is %d, this one is %d", ErrFenced, s.Term, c.Term)
	case c.Sequence == 0:
		return nil, fmt.Errorf("%w: sequences begin at 1", ErrInvalid)
	case c.Sequence <= s.Sequence:
		return s, nil
	case c.Sequence > s.Sequence+1:
		return nil, fmt.Errorf("%w: sequence %d does not follow %d", ErrInvalid, c.Sequence, s.Sequence)
	}
	n := *s
	n.Term, n.Sequence = c.Term, c.Sequence
	n.NextOrdinal = max(s.NextOrdinal, c.NextOrdinal)
	if c.Identity != nil {
		n.Source, n.ClusterID, n.Epoch = c.Identity.Source, c.Identity.ClusterID, c.Identity.Epoch
	}
	for _, step := range []func(*State, *Commit) error{
		(*State).setRanges, (*State).setLanes, (*State).checkDeliveries, (*State).countDead,
	} {
		if err := step(&n, c); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err := n.discountDead(c, sinkOf); err != nil {
		return nil, err
	}
	n.setSinks(c)
	return &n, nil
}

// Clone returns a deep copy of s.
func (s *State) Clone() *State {
	n := *s
	n.Ranges = slices.Clone(s.Ranges)
	for i := range n.Ranges {
		n.Ranges[i] = n.Ranges[i].clone()
	}
	n.Lanes, n.Sinks = slices.Clone(s.Lanes), slices.Clone(s.Sinks)
	n.DeadLetters = maps.Clone(s.DeadLetters)
	return &n
}

func (r RangeState) clone() RangeState {
	r.Range = keyhook.Range{Start: bytes.Clone(r.Range.Start), End: bytes.Clone(r.Range.End)}
	if r.Seed != nil {
		seed := *r.Seed
		seed.Cursor = bytes.Clone(seed.Cursor)
		r.Seed = &seed
	}
	if r.Anchor != nil {
		r.Anchor = r.Anchor.clone()
	}
	if r.Repair != nil {
		repair := *r.Repair
		repair.Cursor = bytes.Clone(repair.Cursor)
		r.Repair = &repair
	}
	return r
}

func (a *Anchor) clone() *Anchor {
	c := *a
	c.Key = bytes.Clone(a.Key)
	if a.Put != nil {
		c.Put = a.Put.clone()
	}
	return &c
}

func (s *State) setRanges(c *Commit) error {
	if len(c.Ranges) == 0 && len(c.DropRanges) == 0 {
		return nil
	}
	ranges := slices.DeleteFunc(slices.Clone(s.Ranges), func(r RangeState) bool {
		return slices.ContainsFunc(c.DropRanges, r.Range.Equal)
	})
	changed := len(ranges) != len(s.Ranges)
	for _, r := range c.Ranges {
		i, found := slices.BinarySearchFunc(ranges, r.Range.Start, func(r RangeState, start []byte) int {
			return bytes.Compare(r.Range.Start, start)
		})
		switch {
		case !found:
			ranges = slices.Insert(ranges, i, r.clone())
			changed = true
		case ranges[i].Range.Equal(r.Range):
			ranges[i] = r.clone()
		default:
			return fmt.Errorf("the range %s begins as %s does", r.Range, ranges[i].Range)
		}
	}
	s.Ranges = ranges
	if changed {
		return disjoint(ranges)
	}
	return nil
}

func disjoint(sorted []RangeState) error {
	for i, r := range sorted {
		if len(r.Range.End) > 0 && bytes.Compare(r.Range.Start, r.Range.End) >= 0 {
			return fmt.Errorf("the range %s is empty", r.Range)
		}
		if i > 0 && beyond(sorted[i-1].Range.End, r.Range.Start) {
			return fmt.Errorf("the ranges %s and %s overlap", sorted[i-1].Range, r.Range)
		}
	}
	return nil
}

// beyond reports whether a range that ends at end reaches past key.
func beyond(end, key []byte) bool {
	return len(end) == 0 || bytes.Compare(end, key) > 0
}

func (s *State) setLanes(c *Commit) error {
	if len(c.Lanes) == 0 && len(c.DropLanes) == 0 {
		return nil
	}
	lanes := slices.DeleteFunc(slices.Clone(s.Lanes), func(l Lane) bool {
		return slices.Contains(c.DropLanes, l.Number)
	})
	for _, l := range c.Lanes {
		i, found := findLane(lanes, l.Number)
		switch {
		case !found:
			lanes = slices.Insert(lanes, i, l)
		case lanes[i].Timed != l.Timed:
			return fmt.Errorf("the number of lane %d belongs to %s/%s", l.Number, lanes[i].Rule, lanes[i].Send)
		default:
			lanes[i] = l
		}
	}
	s.Lanes = lanes
	return nil
}

func findLane(lanes []Lane, number uint32) (int, bool) {
	return slices.BinarySearchFunc(lanes, number, func(l Lane, n uint32) int { return cmp.Compare(l.Number, n) })
}

func (s *State) checkDeliveries(c *Commit) error {
	for i := range c.Admitted {
		a := &c.Admitted[i]
		if a.Delivery == nil {
			return fmt.Errorf("the admission %d has no delivery", i)
		}
		if a.Delivery.Ordinal == 0 || a.Delivery.Ordinal >= s.NextOrdinal {
			return fmt.Errorf("the ordinal %d of delivery %s is not in 1..%d", a.Delivery.Ordinal, a.Delivery.ID, s.NextOrdinal-1)
		}
		if _, found := findLane(s.Lanes, a.Lane); !found {
			return fmt.Errorf("the lane %d of delivery %s does not exist", a.Lane, a.Delivery.ID)
		}
	}
	for i := range c.Retried {
		if _, found := findLane(s.Lanes, c.Retried[i].Lane); !found {
			return fmt.Errorf("the lane %d of a retried delivery does not exist", c.Retried[i].Lane)
		}
	}
	return nil
}

func (s *State) countDead(c *Commit) error {
	if len(c.Dead) == 0 {
		return nil
	}
	counts := maps.Clone(s.DeadLetters)
	if counts == nil {
		counts = make(map[string]int)
	}
	for i := range c.Dead {
		d := &c.Dead[i]
		if d.Delivery == nil {
			return fmt.Errorf("the dead letter %d has no delivery", d.Number)
		}
		if d.Number < s.NextDeadLetter {
			return fmt.Errorf("the number %d of a dead letter is below %d", d.Number, s.NextDeadLetter)
		}
		s.NextDeadLetter = d.Number + 1
		counts[d.Delivery.Sink]++
	}
	s.DeadLetters = counts
	return nil
}

// discountDead takes the dead letters that are dropped out of the counts, those
// of the commit itself included: they go last, as what is settled does.
func (s *State) discountDead(c *Commit, sinkOf func(uint64) (string, bool, error)) error {
	if len(c.DropDead) == 0 {
		return nil
	}
	counts := maps.Clone(s.DeadLetters)
	if counts == nil {
		return nil // there is none
	}
	dropped := make(map[uint64]bool, len(c.DropDead))
	for _, number := range c.DropDead {
		if dropped[number] {
			continue
		}
		dropped[number] = true
		sink, found, err := sinkOf(number)
		if err != nil {
			return err
		}
		if !found {
			i, own := slices.BinarySearchFunc(c.Dead, number, func(d DeadLetter, n uint64) int { return cmp.Compare(d.Number, n) })
			if !own {
				continue
			}
			sink = c.Dead[i].Delivery.Sink
		}
		if counts[sink]--; counts[sink] <= 0 {
			delete(counts, sink)
		}
	}
	if len(counts) == 0 {
		counts = nil
	}
	s.DeadLetters = counts
	return nil
}

func (s *State) setSinks(c *Commit) {
	if len(c.Sinks) == 0 {
		return
	}
	sinks := slices.Clone(s.Sinks)
	for _, k := range c.Sinks {
		i, found := slices.BinarySearchFunc(sinks, k.Name, func(s SinkState, name string) int { return cmp.Compare(s.Name, name) })
		forget := k == SinkState{Name: k.Name}
		switch {
		case found && forget:
			sinks = slices.Delete(sinks, i, i+1)
		case found:
			sinks[i] = k
		case !forget:
			sinks = slices.Insert(sinks, i, k)
		}
	}
	s.Sinks = sinks
}

// Uncovered returns the parts of the ranges in drop that none of keep covers:
// what [Commit.DropRanges] takes out of the mirror. keep is sorted and
// disjoint, as [State.Ranges] is.
func Uncovered(drop []keyhook.Range, keep []RangeState) []keyhook.Range {
	var parts []keyhook.Range
	for _, d := range drop {
		start, open := d.Start, true
		for _, k := range keep {
			if !beyond(k.Range.End, start) {
				continue
			}
			if !beyond(d.End, k.Range.Start) {
				break
			}
			if bytes.Compare(start, k.Range.Start) < 0 {
				parts = append(parts, keyhook.Range{Start: start, End: k.Range.Start})
			}
			if len(k.Range.End) == 0 || !beyond(d.End, k.Range.End) {
				open = false
				break
			}
			start = k.Range.End
		}
		if open {
			parts = append(parts, keyhook.Range{Start: start, End: d.End})
		}
	}
	return parts
}
