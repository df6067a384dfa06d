package dispatcher

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Breaker says when a sink that is down is left alone. Zero fields take the
// defaults named.
//
//	         evidence that it is down        open has passed
//	closed ────────────────────────▶ open ──────────────────▶ half-open
//	   ▲                               ▲    a probe failed:        │
//	   │                               └──── twice as long ────────┤
//	   └──────────────── all probes succeeded ─────────────────────┘
type Breaker struct {
	Off bool
	// Failures is how many failures in a row open it at least, where they show
	// that the sink cannot be reached. Default 5.
	Failures int
	// Open is for how long nothing is sent at first. It doubles up to a minute
	// while probes fail. Default 10 s, or the longest retry interval where that is
	// shorter.
	Open time.Duration
	// Probes is how many attempts are made at once afterwards, and have to
	// succeed. Default 1.
	Probes int
}

const (
	defaultOpen = 10 * time.Second
	longestOpen = time.Minute
)

func (b *Breaker) setDefaults(longestRetry time.Duration) {
	setDefault(&b.Failures, failuresInARow)
	setDefault(&b.Open, min(defaultOpen, longestRetry))
	setDefault(&b.Probes, 1)
}

// longest returns how long it is open at most.
func (b *Breaker) longest() time.Duration { return max(b.Open, longestOpen) }

// verdict is what an attempt says of a sink.
type verdict uint8

const (
	nothing verdict = iota // it was cut off
	alive
	failing // it failed, which is not enough to open the breaker
	down
)

// breaker decides whether a sink may be sent to. It has the clock that the
// machine has not.
type breaker interface {
	// state says whether an attempt would be let through. An open breaker becomes
	// half-open as time passes.
	state() (s breakerState, until time.Time)
	// begin asks for one attempt. If it is let through, ended must be told what
	// came of it.
	begin() (ended func(verdict), ok bool)
}

type breakerState uint8

const (
	breakerClosed breakerState = iota
	breakerOpen
	breakerHalfOpen
)

// What [SinkStatus.Breaker] says.
const (
	BreakerClosed   = "closed"
	BreakerOpen     = "open"
	BreakerHalfOpen = "half-open"
)

func (s breakerState) String() string {
	switch s {
	case breakerOpen:
		return BreakerOpen
	case breakerHalfOpen:
		return BreakerHalfOpen
	default:
		return BreakerClosed
	}
}

// circuit is a breaker by the library, which is asked from the moment on that the
// breaker opens: until then an attempt is worth no look at the clock. The library
// has one timeout for good, so there is a new one of them whenever another one is
// due.
type circuit struct {
	cfg    Breaker
	two    *gobreaker.TwoStepCircuitBreaker[struct{}]
	closed bool
	era    func(verdict) // what attempts tell that begin while it is closed
	open   time.Duration // for how long, the next time
	until  time.Time
}

var _ breaker = (*circuit)(nil)

var errFailing, errNothing = errors.New("failed"), errors.New("cut off")

func newBreaker(cfg Breaker) breaker {
	b := &circuit{cfg: cfg}
	b.close()
	return b
}

// close begins anew. Attempts that are in flight do not matter any more.
func (b *circuit) close() {
	b.closed, b.open = true, b.cfg.Open
	current := new(struct{ over bool })
	b.era = func(v verdict) {
		if v == down && !current.over {
			current.over = true
			b.trip()
		}
	}
}

// trip opens it.
func (b *circuit) trip() {
	b.closed = false
	b.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: uint32(b.cfg.Probes), //nolint:gosec // a small number
		Timeout:     b.open,
		ReadyToTrip: func(gobreaker.Counts) bool { return true },
		IsExcluded:  func(err error) bool { return errors.Is(err, errNothing) },
	})
	if ended, err := b.two.Allow(); err == nil {
		ended(errFailing)
	}
	// A moment later than the library has it, which compares by its own look at
	// the clock.
	b.until = time.Now().Add(b.open + time.Millisecond)
}

func (b *circuit) state() (breakerState, time.Time) {
	switch {
	case b.closed:
		return breakerClosed, time.Time{}
	case b.two.State() == gobreaker.StateOpen:
		return breakerOpen, b.until
	default:
		return breakerHalfOpen, time.Time{}
	}
}

func (b *circuit) begin() (func(verdict), bool) {
	if b.closed {
		return b.era, true
	}
	two := b.two
	ended, err := two.Allow()
	if err != nil {
		return nil, false
	}
	return func(v verdict) {
		switch v {
		case nothing:
			ended(errNothing)
		case alive:
			ended(nil)
		case failing, down:
			ended(errFailing)
		}
		if two != b.two || b.closed {
			return
		}
		switch two.State() {
		case gobreaker.StateClosed:
			b.close()
		case gobreaker.StateOpen:
			b.open = min(2*b.open, b.cfg.longest())
			b.trip()
		case gobreaker.StateHalfOpen:
		}
	}, true
}
