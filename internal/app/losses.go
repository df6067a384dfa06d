package app

import (
	"maps"
	"slices"
	"time"
)

const (
	// goneAfter is how long a file must have been away, or empty, to count as
	// removed: somebody may be replacing it in two steps, and a range that no rule
	// wants any more loses its position.
	goneAfter = 900 * time.Millisecond
	// shorterAfter is how long a file must have been shorter than before to count
	// as edited, and not as half written.
	shorterAfter = 500 * time.Millisecond
	// lossesAtMost keeps files that come and go without end from holding up what
	// else has changed.
	lossesAtMost = 5 * time.Second
)

// listing holds the sizes of files, by path.
type listing map[string]int64

// losses knows which files have less in them than they had when they were last
// taken as they are. It has no clock of its own.
type losses struct {
	gone, shorter, most time.Duration

	before listing
	since  map[string]time.Time // of each loss
	after  map[string]time.Duration
}

func newLosses(before listing) *losses {
	return &losses{
		gone: goneAfter, shorter: shorterAfter, most: lossesAtMost,
		before: before, since: map[string]time.Time{}, after: map[string]time.Duration{},
	}
}

// look compares what is there with what was. A loss that is new began at the
// given time.
func (l *losses) look(now listing, at time.Time) {
	for path, size := range l.before {
		left := now[path] // 0 if it is gone
		switch {
		case left >= size:
			delete(l.since, path)
			delete(l.after, path)
			continue
		case left == 0:
			l.after[path] = l.gone
		default:
			l.after[path] = l.shorter
		}
		if _, known := l.since[path]; !known {
			l.since[path] = at
		}
	}
}

// wait returns how long from at all losses have to last until they count: 0 if
// they do, or there are none.
func (l *losses) wait(at time.Time) time.Duration {
	var longest time.Duration
	for path, since := range l.since {
		if at.Sub(since) >= l.most {
			return 0
		}
		longest = max(longest, l.after[path]-at.Sub(since))
	}
	return longest
}

// take makes what is there now what later looks are compared with.
func (l *losses) take(now listing) {
	l.before = now
	clear(l.since)
	clear(l.after)
}

// paths returns the files that have lost something, sorted.
func (l *losses) paths() []string { return slices.Sorted(maps.Keys(l.since)) }
