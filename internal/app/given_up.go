package app

import (
	"bytes"

	"keyhook"
	"keyhook/checkpoint"
)

// warnGivenUp says what of the ranges that were watched is not any more. It
// begins anew if it is ever watched again: what happens meanwhile is not seen.
func (r *run) warnGivenUp(states []checkpoint.RangeState, want []keyhook.Range) {
	for _, s := range states {
		for _, part := range uncovered(s.Range, want) {
			r.log.Warn("a range is no longer watched: its position and what was remembered of its keys are given up",
				"range", part.String(), "position", s.Position.String(), "hint", "should it be watched again, it begins as etcd.start says")
		}
	}
}

// uncovered returns the parts of r that are in none of want, which are disjoint
// and in key order.
func uncovered(r keyhook.Range, want []keyhook.Range) []keyhook.Range {
	var parts []keyhook.Range
	for _, w := range want {
		if len(w.End) > 0 && bytes.Compare(w.End, r.Start) <= 0 {
			continue // ahead of it
		}
		if len(r.End) > 0 && bytes.Compare(r.End, w.Start) <= 0 {
			break // behind it
		}
		if bytes.Compare(r.Start, w.Start) < 0 {
			parts = append(parts, keyhook.Range{Start: r.Start, End: w.Start})
		}
		if len(w.End) == 0 || len(r.End) > 0 && bytes.Compare(r.End, w.End) <= 0 {
			return parts
		}
		r.Start = w.End
	}
	return append(parts, r)
}
