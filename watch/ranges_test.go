package watch

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
)

// Keys of up to two letters, and bounds between them.
var (
	keys  = rapid.SliceOfN(rapid.ByteRange('a', 'd'), 1, 2)
	edges = rapid.SliceOfN(rapid.ByteRange('a', 'd'), 0, 2)
)

var anyRange = rapid.Custom(func(t *rapid.T) keyhook.Range {
	return keyhook.Range{Start: edges.Draw(t, "start"), End: edges.Draw(t, "end")}
})

func allKeys() [][]byte {
	var all [][]byte
	for a := byte('a'); a <= 'd'; a++ {
		all = append(all, []byte{a})
		for b := byte('a'); b <= 'd'; b++ {
			all = append(all, []byte{a, b})
		}
	}
	return append(all, []byte{0}, []byte("ab\x00"), []byte{0xff, 0xff})
}

func holding(rs []keyhook.Range, key []byte) int {
	n := 0
	for _, r := range rs {
		if r.Contains(key) {
			n++
		}
	}
	return n
}

func TestNormalizeKeepsEveryKeyInDisjointRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rs := rapid.SliceOfN(anyRange, 0, 8).Draw(t, "ranges")
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		out := Normalize(rs, limit)
		if limit > 0 && len(out) > limit {
			t.Fatalf("%d ranges", len(out))
		}
		for i, r := range out {
			if empty(r) || i > 0 && (len(out[i-1].End) == 0 || bytes.Compare(out[i-1].End, r.Start) >= 0) {
				t.Fatalf("not normal: %v", out)
			}
		}
		for _, k := range allKeys() {
			was, is := holding(rs, k), holding(out, k)
			if is > 1 || was > 0 && is == 0 || limit == 0 && was == 0 && is > 0 {
				t.Fatalf("%q was in %d ranges, is in %d of %v", k, was, is, out)
			}
		}
	})
}

func TestNormalizeMergesTheClosest(t *testing.T) {
	got := Normalize([]keyhook.Range{prefix("/service/b/"), prefix("/apisix/"), prefix("/service/a/x"), prefix("/service/a/y")}, 2)
	want := []keyhook.Range{prefix("/apisix/"), {Start: []byte("/service/a/x"), End: []byte("/service/b0")}}
	if !slices.EqualFunc(got, want, keyhook.Range.Equal) {
		t.Fatalf("%v", got)
	}
}

var anyStates = rapid.Custom(func(t *rapid.T) []checkpoint.RangeState {
	var states []checkpoint.RangeState
	rs := Normalize(rapid.SliceOfN(anyRange, 0, 5).Draw(t, "old"), 0)
	// Divide some, so that there are adjacent ranges, too.
	var divided []keyhook.Range
	for _, r := range rs {
		at := keys.Draw(t, "at")
		left, ok := intersect(r, keyhook.Range{End: at})
		right, ok2 := intersect(r, keyhook.Range{Start: at})
		if ok && ok2 {
			divided = append(divided, left, right)
		} else {
			divided = append(divided, r)
		}
	}
	for _, r := range divided {
		s := checkpoint.RangeState{Range: r, Position: keyhook.Position{
			Next: int64(rapid.IntRange(1, 3).Draw(t, "next")), Admitted: rapid.SampledFrom([]int{0, 0, 2}).Draw(t, "admitted"),
		}, Forgotten: uint64(rapid.IntRange(0, 9).Draw(t, "forgotten"))}
		if s.Position.Admitted == 0 && rapid.Bool().Draw(t, "seeding") {
			cursor := keys.Draw(t, "cursor")
			if !r.Contains(cursor) {
				cursor = r.Start
			}
			s.Seed = &checkpoint.Seed{Revision: s.Position.Next - 1, Cursor: cursor, Emit: true}
		}
		if a := keys.Draw(t, "anchor"); r.Contains(a) {
			s.Anchor = &checkpoint.Anchor{Key: a, Revision: s.Position.Next - 1}
		}
		states = append(states, s)
	}
	return states
})

func find(states []checkpoint.RangeState, key []byte) *checkpoint.RangeState {
	for i := range states {
		if states[i].Range.Contains(key) {
			return &states[i]
		}
	}
	return nil
}

func listedAlready(s *checkpoint.RangeState, key []byte) bool {
	return s.Seed == nil || bytes.Compare(key, s.Seed.Cursor) < 0
}

func TestEveryKeyKeepsItsPlaceWhenRangesChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := anyStates.Draw(t, "states")
		want := Normalize(rapid.SliceOfN(anyRange, 0, 5).Draw(t, "want"), 0)
		p := inherit(old, want)
		after := slices.Concat(p.keep, p.inward, p.finish)
		for i, s := range after {
			for _, o := range slices.Concat(after[i+1:]) {
				if _, ok := intersect(s.Range, o.Range); ok {
					t.Fatalf("%s and %s overlap", s.Range, o.Range)
				}
			}
		}
		for _, k := range allKeys() {
			was, is := find(old, k), find(after, k)
			fresh, wanted := holding(p.fresh, k), holding(want, k) > 0
			switch {
			case was == nil && wanted:
				if is != nil || fresh != 1 {
					t.Fatalf("%q is new: %+v", k, p)
				}
			case was != nil && wanted:
				if is == nil || fresh != 0 || is.Position != was.Position || is.Forgotten != was.Forgotten {
					t.Fatalf("%q was at %v: %+v", k, was, p)
				}
				if listedAlready(was, k) != listedAlready(is, k) || is.Seed != nil && is.Seed.Revision != was.Seed.Revision {
					t.Fatalf("the seed of %q: was %+v, is %+v", k, was.Seed, is.Seed)
				}
			default:
				if fresh != 0 || is != nil && holding(rangesOf(p.finish), k) == 0 {
					t.Fatalf("%q is not wanted: %+v", k, p)
				}
			}
			if was != nil && is != nil && !was.Range.Equal(is.Range) && !slices.ContainsFunc(p.drop, was.Range.Equal) {
				t.Fatalf("%s is divided and not dropped", was.Range)
			}
		}
		for _, s := range p.inward {
			if s.Position.Admitted > 0 {
				t.Fatalf("%s is a part in the middle of a revision", s.Range)
			}
			if s.Anchor != nil && !s.Range.Contains(s.Anchor.Key) {
				t.Fatalf("the anchor of %s is another range's", s.Range)
			}
		}
	})
}

func TestMergingMovesNoPosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old := anyStates.Draw(t, "states")
		want := Normalize(rapid.SliceOfN(anyRange, 0, 5).Draw(t, "want"), 0)
		all, drop, joined := merge(old, want)
		if len(drop) == 0 != (len(joined) == 0) || len(all) != len(old)-len(drop)+len(joined) {
			t.Fatalf("%d ranges, %d dropped, %d joined of %d", len(all), len(drop), len(joined), len(old))
		}
		for _, k := range allKeys() {
			was, is := find(old, k), find(all, k)
			if (was == nil) != (is == nil) {
				t.Fatalf("%q was in %+v, is in %+v", k, was, is)
			}
			if was != nil && (was.Position != is.Position || was.Forgotten > is.Forgotten || listedAlready(was, k) != listedAlready(is, k)) {
				t.Fatalf("%q was in %+v, is in %+v", k, was, is)
			}
			if was != nil && is.Anchor != nil && (was.Anchor == nil || was.Anchor.Revision > is.Anchor.Revision) {
				t.Fatalf("the anchor of %+v may be older than a change of %+v", is, was)
			}
		}
	})
}

func rangesOf(states []checkpoint.RangeState) []keyhook.Range {
	var rs []keyhook.Range
	for _, s := range states {
		rs = append(rs, s.Range)
	}
	return rs
}
