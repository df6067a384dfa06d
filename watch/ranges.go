package watch

import (
	"bytes"
	"slices"

	"keyhook"
)

// Normalize returns disjoint ranges in key order that hold every key of rs:
// overlapping and adjacent ones are merged, empty ones left out. If more than
// limit remain, neighbours are merged until limit are left, with the keys between
// them: first those whose bounds have the longest prefix in common. A limit of 0
// sets no bound.
func Normalize(rs []keyhook.Range, limit int) []keyhook.Range {
	sorted := make([]keyhook.Range, 0, len(rs))
	for _, r := range rs {
		if !empty(r) {
			sorted = append(sorted, keyhook.Range{Start: bytes.Clone(r.Start), End: bytes.Clone(r.End)})
		}
	}
	slices.SortFunc(sorted, func(a, b keyhook.Range) int { return bytes.Compare(a.Start, b.Start) })
	var out []keyhook.Range
	for _, r := range sorted {
		if n := len(out); n > 0 && reaches(out[n-1], r.Start) {
			if compareEnds(r.End, out[n-1].End) > 0 {
				out[n-1].End = r.End
			}
			continue
		}
		out = append(out, r)
	}
	for limit > 0 && len(out) > limit {
		i := closest(out)
		out[i].End = out[i+1].End
		out = slices.Delete(out, i+1, i+2)
	}
	return out
}

// closest returns the index of the range that lies closest to its successor.
func closest(rs []keyhook.Range) int {
	best, length := 0, -1
	for i := range len(rs) - 1 {
		if n := commonPrefix(rs[i].End, rs[i+1].Start); n > length {
			best, length = i, n
		}
	}
	return best
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func empty(r keyhook.Range) bool {
	return len(r.End) > 0 && bytes.Compare(r.Start, r.End) >= 0
}

// reaches reports whether r goes on to key, or ends right before it.
func reaches(r keyhook.Range, key []byte) bool {
	return len(r.End) == 0 || bytes.Compare(r.End, key) >= 0
}

// compareEnds compares upper bounds; an empty one is above all others.
func compareEnds(a, b []byte) int {
	switch {
	case len(a) == 0 && len(b) == 0:
		return 0
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	default:
		return bytes.Compare(a, b)
	}
}

// intersect returns the keys that a and b have in common; ok is false if there
// are none.
func intersect(a, b keyhook.Range) (common keyhook.Range, ok bool) {
	common = a
	if bytes.Compare(b.Start, a.Start) > 0 {
		common.Start = b.Start
	}
	if compareEnds(b.End, a.End) < 0 {
		common.End = b.End
	}
	return common, !empty(common)
}

// subtract returns the parts of r that lie in none of the sorted, disjoint holes.
func subtract(r keyhook.Range, holes []keyhook.Range) []keyhook.Range {
	var parts []keyhook.Range
	for _, h := range holes {
		if _, ok := intersect(r, h); !ok {
			continue
		}
		if bytes.Compare(r.Start, h.Start) < 0 {
			parts = append(parts, keyhook.Range{Start: r.Start, End: h.Start})
		}
		if compareEnds(h.End, r.End) >= 0 {
			return parts
		}
		r.Start = h.End
	}
	return append(parts, r)
}

func covers(outer, inner keyhook.Range) bool {
	return bytes.Compare(outer.Start, inner.Start) <= 0 && compareEnds(outer.End, inner.End) >= 0
}
