package watch

import "time"

// doubt limits how often a range is compared with etcd because changes do not
// follow: an etcd that always tells them wrongly must not be listed without end.
// It has no clock of its own.
type doubt struct {
	interval time.Duration // the first

	wait time.Duration // until the next one
	next time.Time
}

// longestDoubt bounds the time between two comparisons.
const longestDoubt = time.Hour

// due reports whether a comparison may be made now, and counts it if so. The time
// between two doubles, and begins anew after an hour without.
func (d *doubt) due(now time.Time) bool {
	if now.Before(d.next) {
		return false
	}
	if d.wait == 0 || now.Sub(d.next) > longestDoubt {
		d.wait = d.interval
	} else {
		d.wait = min(2*d.wait, longestDoubt)
	}
	d.next = now.Add(d.wait)
	return true
}
