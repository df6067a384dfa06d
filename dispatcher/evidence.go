package dispatcher

import (
	"errors"
	"time"

	"keyhook/sinks"
)

// What opens a breaker is evidence that the sink is down, not that some keys
// fail: a sink that refuses thousands of keys and takes others stays closed.
// All of it is since the last success.
const (
	// No connection can be made, which is never about what is delivered; or no
	// answer comes, or one that says that nothing is taken now, of so many keys.
	failuresInARow  = 5
	unavailableKeys = 3

	// The sink answers, and fails. Only first attempts count here: what is merely
	// tried again and again may be what no sink would ever take.
	answeredInARow = 20
	answeredKeys   = 10

	// Answers count at once where they are about keys that the sink took before,
	// as far as it is remembered.
	knownKeys = 3
	// If not, they may be thousands of keys that always fail, and for some time
	// nothing else.
	unavailableAlone = 10 * time.Second
	answersAlone     = 15 * time.Second
)

// evidence is what the failures since the last success say of a sink.
type evidence struct {
	failures    int     // in a row, over all chains
	since       instant // the first of them
	unconnected int
	unavailable tally
	answered    tally // first attempts only
	known       keys  // that failed and were taken before
	silent      bool  // some attempt got no answer at all
	taken       recent
}

// tally counts failures and the keys that they are of.
type tally struct {
	n    int
	keys keys
}

func (t *tally) add(key uint64) {
	t.n++
	t.keys.add(key)
}

// keys is a set of keys that is large enough to decide by.
type keys struct {
	n    int
	hash [answeredKeys]uint64
}

func (k *keys) add(key uint64) {
	for _, h := range k.hash[:k.n] {
		if h == key {
			return
		}
	}
	if k.n < len(k.hash) {
		k.hash[k.n] = key
		k.n++
	}
}

// recent remembers the keys that were taken last.
type recent struct {
	ring [256]uint64
	at   int
	set  map[uint64]struct{}
}

func (r *recent) add(key uint64) {
	if _, ok := r.set[key]; ok {
		return
	}
	if r.set == nil {
		r.set = make(map[uint64]struct{}, len(r.ring))
	}
	if old := r.ring[r.at]; len(r.set) == len(r.ring) {
		delete(r.set, old)
	}
	r.ring[r.at] = key
	r.at = (r.at + 1) % len(r.ring)
	r.set[key] = struct{}{}
}

// took says that the sink took something of a key.
func (e *evidence) took(key uint64) {
	e.taken.add(key)
	e.success()
}

// success forgets what spoke against the sink.
func (e *evidence) success() {
	taken := e.taken
	if e.failures > 0 {
		*e = evidence{taken: taken}
	}
}

// failed counts a failed attempt at a delivery of a key.
func (e *evidence) failed(now instant, key uint64, first bool, err error) {
	if e.failures == 0 {
		e.since = now
	}
	e.failures++
	if _, ok := e.taken.set[key]; ok {
		e.known.add(key)
	}
	switch reach := reachOf(err); reach {
	case sinks.Unconnected:
		e.unconnected++
		e.unavailable.add(key)
	case sinks.Unanswered, sinks.Unavailable:
		e.silent = e.silent || reach == sinks.Unanswered
		e.unavailable.add(key)
	case sinks.Answered:
		if first {
			e.answered.add(key)
		}
	}
}

// down reports whether the sink is down, as far as one can tell: inARow is how
// many failures it takes at least.
func (e *evidence) down(now instant, inARow int) bool {
	if e.unconnected >= inARow {
		return true
	}
	unavailable := e.unavailable.n >= inARow && e.unavailable.keys.n >= min(inARow, unavailableKeys)
	if unavailable && e.silent {
		return true
	}
	answered := e.answered.n >= max(inARow, answeredInARow) && e.answered.keys.n >= answeredKeys
	alone := time.Duration(now - e.since)
	if e.known.n >= knownKeys {
		return unavailable || answered && alone >= failingTime
	}
	return unavailable && alone >= unavailableAlone || answered && alone >= answersAlone
}

// reachOf returns what err says of the sink as a whole.
func reachOf(err error) sinks.Reach {
	var e *sinks.Error
	if errors.As(err, &e) {
		return e.Reach
	}
	return sinks.Answered
}
