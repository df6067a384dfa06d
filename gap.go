package keyhook

import "time"

// Gap is a stretch of etcd's history that cannot be read change by change any
// more. What came of it was found by comparing what each key held before with
// what it holds in etcd, and was told as synthetic changes. What cannot be found
// that way is lost: values that were replaced in between, keys that were created
// and deleted in between, and which changes were one transaction.
//
// Its identity is (Epoch, Range, To).
type Gap struct {
	Range  Range
	Reason GapReason
	// Epoch of the history that the range follows from here on.
	Epoch uint64
	// From is the first revision that was not read, To the revision at which the
	// range was compared with etcd. After a rollback To may be below From: the two
	// are of different histories.
	From, To int64
	// Created, Changed and Deleted count the keys that differed, and with that the
	// synthetic changes.
	Created, Changed, Deleted int
	// At is when the gap was noticed.
	At time.Time
}

// GapReason is why history cannot be read on. Its values are label values of
// metrics, and what rules and receivers see.
type GapReason string

// Reasons of gaps.
const (
	// GapCompacted: etcd has compacted revisions that were not read yet.
	GapCompacted GapReason = "compacted"
	// GapRolledBack: etcd does not hold the history that was read before: it was
	// restored from a backup, or set up anew.
	GapRolledBack GapReason = "rolled_back"
	// GapDiverged: etcd's history is the same for all that is known, but a change
	// did not follow the ones before it, or a key was found to differ: changes
	// were skipped.
	GapDiverged GapReason = "diverged"
)

// Differences returns how many keys differed.
func (g *Gap) Differences() int { return g.Created + g.Changed + g.Deleted }

// SyntheticDelete is the [Event.Occurrence] of a synthetic Delete. The revision
// of such an event is the one that last wrote the key, so that without it the
// deletion would have the id of that change.
const SyntheticDelete = -1
