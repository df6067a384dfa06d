package watch

import (
	"bytes"
	"slices"

	"keyhook"
	"keyhook/checkpoint"
)

// plan is what a change of the watched ranges comes to. A part of an old range
// inherits its position, whatever was wanted before.
//
//	old      [──────A──────)      [──B──)
//	wanted       [────────────)   [──B──)
//	         drop[─A'─────)[fresh)[─keep)
type plan struct {
	keep   []checkpoint.RangeState // as they are
	inward []checkpoint.RangeState // parts of ranges in drop, with their positions
	drop   []keyhook.Range
	// finish are ranges that would be divided, in the middle of a revision: how
	// many of the events that were admitted belong to which part is not known.
	// They are read as they are up to the end of the revision, and divided then.
	finish []checkpoint.RangeState
	fresh  []keyhook.Range // begin anew
}

// inherit plans the change from the old ranges to the wanted ones. Both are
// disjoint; want is in key order.
func inherit(old []checkpoint.RangeState, want []keyhook.Range) plan {
	var p plan
	known := make([]keyhook.Range, 0, len(old))
	for _, o := range old {
		known = append(known, o.Range)
		parts := wanted(o.Range, want)
		switch {
		case len(parts) == 1 && parts[0].Equal(o.Range):
			p.keep = append(p.keep, o)
		case len(parts) > 0 && o.Position.Admitted > 0:
			p.finish = append(p.finish, o)
		default:
			p.drop = append(p.drop, o.Range)
			for _, part := range parts {
				p.inward = append(p.inward, divide(o, part))
			}
		}
	}
	slices.SortFunc(known, func(a, b keyhook.Range) int { return bytes.Compare(a.Start, b.Start) })
	for _, w := range want {
		p.fresh = append(p.fresh, subtract(w, known)...)
	}
	return p
}

// wanted returns the parts of r that are in want.
func wanted(r keyhook.Range, want []keyhook.Range) []keyhook.Range {
	var parts []keyhook.Range
	for _, w := range want {
		if part, ok := intersect(r, w); ok {
			parts = append(parts, part)
		}
	}
	return parts
}

// divide returns the state that a part of o begins with. The anchor goes with the
// part that holds its key; another part finds its own in the mirror.
func divide(o checkpoint.RangeState, part keyhook.Range) checkpoint.RangeState {
	s := checkpoint.RangeState{Range: part, Position: o.Position, Forgotten: o.Forgotten, Epoch: o.Epoch}
	if o.Anchor != nil && part.Contains(o.Anchor.Key) {
		s.Anchor = o.Anchor
		if put := o.Anchor.Put; put != nil && !part.Contains(put.Key) {
			alone := *o.Anchor
			alone.Put = nil
			s.Anchor = &alone
		}
	}
	if o.Repair != nil { // it begins anew, and finds what is left
		s.Repair = &checkpoint.Repair{
			Reason: o.Repair.Reason, From: o.Repair.From, At: o.Repair.At, Cursor: part.Start, Resume: o.Repair.Resume,
			Whole: o.Repair.Whole, Fill: o.Repair.Fill, Emit: o.Repair.Emit, Suspicion: o.Repair.Suspicion,
		}
	}
	if o.Seed == nil || !reaches(part, o.Seed.Cursor) || bytes.Equal(part.End, o.Seed.Cursor) && len(part.End) > 0 {
		return s // the seed is past the part
	}
	seed := *o.Seed
	if bytes.Compare(seed.Cursor, part.Start) < 0 {
		seed.Cursor = part.Start
	}
	s.Seed = &seed
	return s
}

// merge joins adjacent ranges that stand at the same position and are wanted as
// one. It returns all ranges, in key order; drop and joined are what changes.
func merge(states []checkpoint.RangeState, want []keyhook.Range) (all []checkpoint.RangeState, drop []keyhook.Range, joined []checkpoint.RangeState) {
	states = slices.Clone(states)
	slices.SortFunc(states, func(a, b checkpoint.RangeState) int { return bytes.Compare(a.Range.Start, b.Range.Start) })
	for i := 0; i < len(states); {
		s, j := states[i], i+1
		for ; j < len(states) && mergeable(s, states[j], want); j++ {
			s.Range.End = states[j].Range.End
			s.Forgotten = max(s.Forgotten, states[j].Forgotten)
			if o := states[j].Anchor; s.Anchor == nil || o == nil {
				s.Anchor = nil // none that is known to be the newest of the whole
			} else if o.Revision > s.Anchor.Revision {
				s.Anchor = o
			}
		}
		if j > i+1 {
			joined = append(joined, s)
			for _, part := range states[i:j] {
				drop = append(drop, part.Range)
			}
		}
		all = append(all, s)
		i = j
	}
	return all, drop, joined
}

func mergeable(a, b checkpoint.RangeState, want []keyhook.Range) bool {
	return len(a.Range.End) > 0 && bytes.Equal(a.Range.End, b.Range.Start) &&
		a.Position == b.Position && a.Position.Admitted == 0 && a.Epoch == b.Epoch &&
		a.Seed == nil && b.Seed == nil && a.Repair == nil && b.Repair == nil &&
		slices.ContainsFunc(want, func(w keyhook.Range) bool { return covers(w, a.Range) && covers(w, b.Range) })
}
