package app

import (
	"keyhook"
	"keyhook/checkpoint"
	"keyhook/internal/compare"
)

// warnGivenUp says what of the ranges that were watched is not any more. It
// begins anew if it is ever watched again: what happens meanwhile is not seen.
func (r *run) warnGivenUp(states []checkpoint.RangeState, want []keyhook.Range) {
	for _, s := range states {
		for _, part := range compare.Uncovered(s.Range, want) {
			r.log.Warn("a range is no longer watched: its position and what was remembered of its keys are given up",
				"range", part.String(), "position", s.Position.String(), "hint", "should it be watched again, it begins as etcd.start says")
		}
	}
}
