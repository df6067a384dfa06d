package compare

import (
	"bytes"

	"keyhook"
)

// Uncovered returns the parts of r that are in none of want, which are disjoint
// and in key order.
func Uncovered(r keyhook.Range, want []keyhook.Range) []keyhook.Range {
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
