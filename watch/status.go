package watch

import (
	"slices"
	"strings"
	"time"

	"keyhook"
)

// Status is how far a [Watcher] has come.
type Status struct {
	// Ready: every range that is wanted is watched, and ready.
	Ready     bool
	Ranges    []RangeStatus // in key order
	Revision  int64         // etcd's, as far as seen; 0 if it never was
	Compacted int64         // etcd's compacted revision, as far as learnt; 0 if never
}

// RangeStatus is how far the reading of one range has come.
type RangeStatus struct {
	Range keyhook.Range
	// Position of what was admitted; zero until the range has begun.
	Position keyhook.Position
	// Ready: the start is durable, the seed complete, the watch established:
	// every later change will be delivered.
	Ready bool
	// Seeding: the range is being listed.
	Seeding bool
	// Repairing: a gap is being repaired, or it is being looked whether there is
	// one.
	Repairing bool
	// Gap is the last one that was repaired since Run began; nil if there was none.
	Gap *keyhook.Gap
	// NearCompaction: the position is in the older half of the history that etcd
	// still has, and far behind: the next compaction may overtake it.
	NearCompaction bool
	// Audit is the last one since Run began; nil if there was none.
	Audit *AuditReport
	// Halted: the range reads nothing until somebody acts; Err says why.
	Halted bool
	// Err is why the range is not ready; nil if nothing is wrong.
	Err *Error
	// Mismatches counts changes that do not follow what the mirror holds, since
	// Run began: earlier ones were lost, or etcd's history is another one.
	Mismatches int
	// LastError is the last one that occurred, even if it is over; mismatches
	// count as errors.
	LastError   string
	LastErrorAt time.Time
}

// Status returns a picture of this moment.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	st := Status{Ready: w.settled && !w.dirty}
	for _, r := range w.running {
		st.Ranges = append(st.Ranges, r.snapshot())
	}
	w.mu.Unlock()
	slices.SortFunc(st.Ranges, func(a, b RangeStatus) int {
		return strings.Compare(string(a.Range.Start), string(b.Range.Start))
	})
	st.Revision, st.Compacted = w.seen.revision(), w.seen.compacted()
	for i := range st.Ranges {
		r := &st.Ranges[i]
		st.Ready = st.Ready && r.Ready
		r.NearCompaction = nearCompaction(r.Position.Revision(), st.Compacted, st.Revision)
	}
	return st
}

// farBehind is from how many revisions on a range may be near the compaction. Each
// is near it right after a compaction of all that it has read.
const farBehind = 1000

// nearCompaction reports whether a range that has read up to revision pos is
// nearer to the compacted revision than to the head.
func nearCompaction(pos, compacted, head int64) bool {
	behind := head - pos
	return pos > 0 && behind > farBehind && pos-compacted < behind
}
