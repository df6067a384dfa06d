package dispatcher

import (
	"errors"
	"time"

	"keyhook/sinks"
)

// turn is a change of a sink's breaker.
type turn struct {
	sink     *sink
	from, to breakerState
	until    time.Time
	err      error // of the attempt that opened it
}

// mayTry asks for one attempt at s. If there may be one, ended must be told what
// came of it; if not, wait says for how long (0: until something else happens).
func (s *sink) mayTry(t moment) (ended func(verdict), wait time.Duration, ok bool) {
	ended = func(verdict) {}
	if s.breaker != nil {
		if ended, ok = s.breaker.begin(); !ok {
			if state, until := s.breaker.state(); state == breakerOpen {
				return nil, max(time.Millisecond, until.Sub(t.wall)), false
			}
			return nil, 0, false
		}
	}
	if ok, wait = s.permit(t.wall); !ok {
		ended(nothing)
	}
	return ended, wait, ok
}

// probes reports whether what is sent now is a probe.
func (s *sink) probes() bool {
	if s.breaker == nil {
		return false
	}
	state, _ := s.breaker.state()
	return state == breakerHalfOpen
}

func (s *sink) breakerOpen() bool {
	state, _ := s.breakerState()
	return state != breakerClosed
}

func (s *sink) breakerState() (breakerState, time.Time) {
	if s.breaker == nil {
		return breakerClosed, time.Time{}
	}
	return s.breaker.state()
}

func (s *sink) breakerStatus() (string, time.Time) {
	state, until := s.breakerState()
	return state.String(), until
}

// setBreaker begins anew, with a closed breaker.
func (m *machine) setBreaker(s *sink) {
	s.evidence.success()
	s.breaker = nil
	if !s.cfg.Breaker.Off {
		s.breaker = m.newBreaker(s.cfg.Breaker)
	}
}

// judge takes what an attempt says of the sink as a whole.
func (m *machine) judge(t moment, s *sink, it *item, err error) {
	v := s.weigh(t.now, it, err)
	before, _ := s.breakerState()
	it.attempted(v)
	it.attempted = nil
	after, until := s.breakerState()
	if after == before {
		return
	}
	if after == breakerClosed {
		s.evidence.success()
	}
	m.turns = append(m.turns, turn{sink: s, from: before, to: after, until: until, err: err})
}

func (s *sink) weigh(now instant, it *item, err error) verdict {
	key := keyHash(it.d)
	switch {
	case err == nil:
		s.evidence.took(key)
		return alive
	case errors.As(err, new(*panicError)):
		return nothing
	}
	switch sinks.KindOf(err) {
	case sinks.Interrupted, sinks.Hold:
		return nothing
	case sinks.Rejected:
		s.evidence.success() // it is there, and says what it does not want
		return alive
	}
	s.evidence.failed(now, key, it.retry.Attempts == 0, err)
	if s.evidence.down(now, s.cfg.Breaker.Failures) {
		return down
	}
	return failing
}
