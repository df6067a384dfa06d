package keyhook

import (
	"bytes"
	"fmt"
	"strconv"
)

// Position is a place in etcd's history: every change of a revision below Next
// has been admitted, and of revision Next itself the first Admitted changes of
// the range. A transaction or the expiry of a lease is one revision of any
// size, so a position may lie inside of one.
type Position struct {
	Next     int64
	Admitted int
}

// After returns the position behind the whole of revision rev.
func After(rev int64) Position { return Position{Next: rev + 1} }

// Revision returns the last revision that was admitted whole.
func (p Position) Revision() int64 { return p.Next - 1 }

// Compare returns -1, 0 or +1 as p lies before, at or behind q.
func (p Position) Compare(q Position) int {
	switch {
	case p.Next != q.Next:
		if p.Next < q.Next {
			return -1
		}
		return 1
	case p.Admitted < q.Admitted:
		return -1
	case p.Admitted > q.Admitted:
		return 1
	}
	return 0
}

func (p Position) String() string {
	if p.Admitted == 0 {
		return strconv.FormatInt(p.Revision(), 10)
	}
	return fmt.Sprintf("%d+%d", p.Revision(), p.Admitted)
}

// Range is a half-open interval of keys, [Start, End). An empty End means that
// it has no upper bound.
type Range struct {
	Start, End []byte
}

// Contains reports whether key lies in r.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(key, r.Start) >= 0 && (len(r.End) == 0 || bytes.Compare(key, r.End) < 0)
}

// Equal reports whether r and o hold the same keys.
func (r Range) Equal(o Range) bool {
	return bytes.Equal(r.Start, o.Start) && bytes.Equal(r.End, o.End)
}

// Prefix returns the range of all keys that begin with p.
func Prefix(p []byte) Range {
	end := bytes.Clone(p)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return Range{Start: bytes.Clone(p), End: end[:i+1]}
		}
	}
	return Range{Start: bytes.Clone(p)}
}

// Single returns the range that holds key alone.
func Single(key []byte) Range {
	return Range{Start: bytes.Clone(key), End: append(bytes.Clone(key), 0)}
}

// String returns r as people write it: a prefix as it stands, a single key with
// a leading "=", all keys as "(all keys)", anything else as "[start, end)"; bytes that do not print are
// quoted.
func (r Range) String() string {
	switch {
	case len(r.Start) == 0 && len(r.End) == 0:
		return "(all keys)"
	case r.Equal(Prefix(r.Start)):
		return printable(r.Start)
	case r.Equal(Single(r.Start)):
		return "=" + printable(r.Start)
	default:
		return "[" + printable(r.Start) + ", " + printable(r.End) + ")"
	}
}

func printable(b []byte) string {
	q := strconv.Quote(string(b))
	return q[1 : len(q)-1]
}
