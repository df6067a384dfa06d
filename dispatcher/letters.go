package dispatcher

import (
	"cmp"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// Retention bounds the dead letters that are kept. The oldest go first. Zero
// fields are no bound.
type Retention struct {
	MaxAge    time.Duration // since the delivery was given up
	MaxNumber int
	MaxBytes  int64 // of their deliveries, see [keyhook.Delivery.Size]
}

// letter is what stays in memory of a dead letter: 24 bytes without pointers.
type letter struct {
	number uint64
	failed int64  // nanoseconds since 1970
	size   uint32 // bytes
	sink   uint32 // number in the machine; gone once it was dropped
}

// gone is the sink of a letter that was dropped and not yet forgotten.
const gone = ^uint32(0)

// letters is the index of the dead letters that are kept.
type letters struct {
	all   []letter // by number
	first int      // nothing before it is kept
	kept  int
	bytes int64
}

func (x *letters) add(l letter) {
	x.all = append(x.all, l)
	x.kept++
	x.bytes += int64(l.size)
}

// drop takes a letter out, if it is there.
func (x *letters) drop(number uint64) (letter, bool) {
	i, found := slices.BinarySearchFunc(x.all, number, func(l letter, n uint64) int { return cmp.Compare(l.number, n) })
	if !found || x.all[i].sink == gone {
		return letter{}, false
	}
	l := x.all[i]
	x.all[i].sink = gone
	x.kept--
	x.bytes -= int64(l.size)
	for x.first < len(x.all) && x.all[x.first].sink == gone {
		x.first++
	}
	if len(x.all) > 2*x.kept+1000 {
		x.all = slices.DeleteFunc(x.all, func(l letter) bool { return l.sink == gone })
		x.all = slices.Clip(slices.Clone(x.all))
		x.first = 0
	}
	return l, true
}

// oldest returns the letter that was given up first.
func (x *letters) oldest() (letter, bool) {
	if x.first == len(x.all) {
		return letter{}, false
	}
	return x.all[x.first], true
}

// exceeds reports whether the oldest letter has to go.
func (r Retention) exceeds(x *letters, wall time.Time) bool {
	l, ok := x.oldest()
	return ok && (r.MaxNumber > 0 && x.kept > r.MaxNumber || r.MaxBytes > 0 && x.bytes > r.MaxBytes ||
		r.MaxAge > 0 && wall.Sub(time.Unix(0, l.failed)) >= r.MaxAge)
}

// maxExpired bounds the dead letters that expire with one commit.
const maxExpired = 10_000

// expire drops what the retention no longer keeps.
func (m *machine) expire(wall time.Time) {
	for len(m.pend.dropDead) < maxExpired && m.retention.exceeds(&m.letters, wall) {
		l, _ := m.letters.oldest()
		s := m.numbered[l.sink]
		if m.dropLetter(l.number) {
			m.expired[s.name]++
		}
	}
}

// expires returns when expire has something to do because of age, if ever.
func (m *machine) expires() (at time.Time, ok bool) {
	l, ok := m.letters.oldest()
	if !ok || m.retention.MaxAge <= 0 {
		return time.Time{}, false
	}
	return time.Unix(0, l.failed).Add(m.retention.MaxAge), true
}

// keepLetter counts a dead letter.
func (m *machine) keepLetter(d checkpoint.Dead) {
	s := m.sink(d.Sink)
	s.deadLetters++
	m.letters.add(letter{number: d.Number, failed: d.FailedAt.UnixNano(), size: uint32(min(d.Size, 1<<32-1)), sink: s.number}) //nolint:gosec // bounded
}

// dropLetter removes a dead letter, and reports whether it was there.
func (m *machine) dropLetter(number uint64) bool {
	l, ok := m.letters.drop(number)
	if !ok {
		return false
	}
	m.numbered[l.sink].deadLetters--
	// One that no commit has said yet is simply not said.
	i, own := slices.BinarySearchFunc(m.pend.dead, number, func(d checkpoint.DeadLetter, n uint64) int { return cmp.Compare(d.Number, n) })
	if own {
		m.pend.dead = slices.Delete(m.pend.dead, i, i+1)
	} else {
		m.pend.dropDead = append(m.pend.dropDead, number)
	}
	return true
}

// Requeue is a dead letter that is to be owed again.
type Requeue struct {
	Number   uint64
	Delivery *keyhook.Delivery // as it is to be sent now
}

// requeue admits dead letters anew, and returns how many were there.
func (m *machine) requeue(t moment, all []Requeue) (n int) {
	for _, r := range all {
		if !m.dropLetter(r.Number) {
			continue
		}
		n++
		d := *r.Delivery
		d.Retry = keyhook.Retry{}
		// It is an older change of its key: it replaces none that is pending.
		d.OnFailure = keyhook.Block
		it := m.item(t, &d)
		if d.Rejected != nil {
			m.stillborn(t, it, d.Rejected.Reason, d.Rejected.Error)
			continue
		}
		// Until the commit it is a dead letter as well: a crash must not leave one
		// of what was delivered.
		it.after = m.sequence + 1
		m.owe(t, it)
	}
	m.tellStories(t)
	return n
}

// discard removes dead letters, and returns how many were there.
func (m *machine) discard(numbers []uint64) (n int) {
	for _, number := range numbers {
		if m.dropLetter(number) {
			n++
		}
	}
	return n
}
