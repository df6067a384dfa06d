package watch

import (
	"fmt"
	"strconv"
)

// Start says where a range begins that was never watched. The zero value is Now.
type Start struct {
	kind     startKind
	revision int64
}

type startKind uint8

const (
	startNow startKind = iota
	startSnapshot
	startEarliest
	startRevision
)

var (
	// Now begins after the revision of the first read.
	Now = Start{}
	// Snapshot begins with a synthetic PUT for each key at the revision of the
	// first read, then goes on after that.
	Snapshot = Start{kind: startSnapshot}
	// Earliest begins after the compacted revision: with all of history if etcd
	// was never compacted.
	Earliest = Start{kind: startEarliest}
)

// FromRevision makes rev, at least 1, the first revision that is delivered.
func FromRevision(rev int64) Start { return Start{kind: startRevision, revision: rev} }

// ParseStart reads "now", "snapshot", "earliest" or a revision from 1.
func ParseStart(s string) (Start, error) {
	switch s {
	case "now":
		return Now, nil
	case "snapshot":
		return Snapshot, nil
	case "earliest":
		return Earliest, nil
	}
	rev, err := strconv.ParseInt(s, 10, 64)
	if err != nil || rev < 1 {
		return Start{}, fmt.Errorf("a start is now, snapshot, earliest or a revision from 1, not %q", s)
	}
	return FromRevision(rev), nil
}

// String returns s as [ParseStart] reads it.
func (s Start) String() string {
	switch s.kind {
	case startSnapshot:
		return "snapshot"
	case startEarliest:
		return "earliest"
	case startRevision:
		return strconv.FormatInt(s.revision, 10)
	default:
		return "now"
	}
}
