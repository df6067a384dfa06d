package dispatcher

import "time"

// Reading further than the sinks can follow costs a write, a read and a removal
// on disk for every delivery, and makes nothing faster: etcd keeps the history
// as well as the disk does. So intake pauses while every sink has its hands
// full. It never does so for the sake of one sink alone, and not for longer than
// paceFor at a stretch, lest the position fall behind etcd's compaction: beyond
// that what is owed goes to disk.
const (
	paceFor = 30 * time.Second
	// paceBatch is how long one batch is held back at most: whoever waits for its
	// admission, such as a reload, waits no longer either.
	paceBatch = 250 * time.Millisecond
	// paceIdle is how long nothing may want to be admitted for a stretch to end.
	paceIdle = time.Second
	// paceBytes is how much of a sink's deliveries in memory is enough: some
	// milliseconds' worth, so that most are settled before the next commit.
	paceBytes = 512 << 10
	// paceProgress is how long ago a sink may have delivered to count as one that
	// makes progress.
	paceProgress = time.Second
)

// pace is how long intake has been held back.
type pace struct {
	since  time.Time // zero: not at all in this stretch
	wanted time.Time // when something last wanted to be admitted
	batch  time.Time // since when a batch is held back; zero: none is
}

// admitted says that a batch was let through.
func (p *pace) admitted(now time.Time) { p.batch, p.wanted = time.Time{}, now }

// holds reports whether intake is to pause, and when to look again.
func (p *pace) holds(now time.Time, wanted, saturated bool) (hold bool, again time.Time) {
	if wanted {
		p.wanted = now
	}
	if now.Sub(p.wanted) >= paceIdle {
		p.since = time.Time{}
	}
	if !saturated {
		p.batch = time.Time{}
		return false, time.Time{}
	}
	if p.since.IsZero() {
		if !wanted {
			return true, now.Add(paceIdle)
		}
		p.since = now
	}
	again = p.since.Add(paceFor)
	if wanted {
		if p.batch.IsZero() {
			p.batch = now
		}
		again = earlier(again, p.batch.Add(paceBatch))
	}
	return now.Before(again), again
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// saturated reports whether no sink would have more to do if more were admitted,
// and at least one makes progress with what it has.
func (m *machine) saturated(now time.Time) bool {
	progress := false
	for _, s := range m.order {
		if !s.open() || !s.defined || s.breakerOpen() {
			continue
		}
		if s.ready < 4*s.cfg.Concurrency || s.bytes < min(paceBytes, m.budget/16) {
			return false
		}
		progress = progress || now.Sub(s.lastDeliveredAt) < paceProgress
	}
	return progress
}

// busy reports whether all sinks that make progress have more to do than what is
// in flight: a short pause of intake costs none of them anything.
func (m *machine) busy() bool {
	for _, s := range m.order {
		if s.open() && s.defined && !s.breakerOpen() && s.ready == 0 {
			return false
		}
	}
	return len(m.order) > 0
}
