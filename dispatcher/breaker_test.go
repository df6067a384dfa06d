package dispatcher

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"keyhook/sinks"
)

// The breaker of the stories and of the model does what the real one does,
// whatever happens in whichever order.
func TestTheBreakersAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(200) {
			rng := rand.New(rand.NewPCG(seed, 1))
			cfg := Breaker{Probes: 1 + rng.IntN(3), Open: time.Second}
			cfg.setDefaults(time.Hour)
			began := time.Now()
			at := &moment{}
			breakers := []breaker{newBreaker(cfg), &clocked{cfg: cfg, open: cfg.Open, now: at}}
			var inFlight [][]func(verdict)
			for step := range 300 {
				at.now, at.wall = instant(time.Since(began)), time.Now()
				var states [2]breakerState
				var until [2]time.Time
				for i, b := range breakers {
					states[i], until[i] = b.state()
				}
				if states[0] != states[1] || !until[0].Equal(until[1]) {
					t.Fatalf("seed %d, step %d: %v until %v", seed, step, states, until)
				}
				switch rng.IntN(3) {
				case 0:
					pass := time.Duration(rng.IntN(5)) * 500 * time.Millisecond
					<-time.After(pass)
				case 1:
					var pair []func(verdict)
					for _, b := range breakers {
						if ended, ok := b.begin(); ok {
							pair = append(pair, ended)
						}
					}
					if len(pair) == 1 {
						t.Fatalf("seed %d, step %d: one of them lets an attempt through", seed, step)
					}
					if len(pair) == 2 {
						inFlight = append(inFlight, pair)
					}
				case 2:
					if len(inFlight) == 0 {
						continue
					}
					i := rng.IntN(len(inFlight))
					v := []verdict{nothing, alive, failing, down, down}[rng.IntN(5)]
					for _, ended := range inFlight[i] {
						ended(v)
					}
					inFlight = append(inFlight[:i], inFlight[i+1:]...)
				}
			}
		}
	})
}

// An attempt as the evidence sees it.
type shown struct {
	key   int
	again bool
	err   error
	after time.Duration
}

func TestWhatOpensABreaker(t *testing.T) {
	status := errors.New("500")
	of := func(reach sinks.Reach) error { return &sinks.Error{Reach: reach, Err: errors.New("failed")} }
	// many fails n times over so many keys, one attempt each interval.
	many := func(n, keys int, err error, again bool, each time.Duration) (all []shown) {
		for i := range n {
			all = append(all, shown{i % keys, again, err, each})
		}
		return all
	}
	taken := func(keys int) (all []shown) {
		for i := range keys {
			all = append(all, shown{key: i})
		}
		return all
	}
	join := func(parts ...[]shown) (all []shown) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	for name, c := range map[string]struct {
		story []shown
		opens int // with the attempt of that number; 0: never
	}{
		"five times no connection, one key":                  {many(9, 1, of(sinks.Unconnected), true, 0), 5},
		"no connection, but a success before the fifth":      {join(many(4, 1, of(sinks.Unconnected), true, 0), taken(1), many(4, 1, of(sinks.Unconnected), true, 0)), 0},
		"no answer, three keys":                              {many(9, 3, of(sinks.Unanswered), true, 0), 5},
		"no answer, two keys":                                {many(999, 2, of(sinks.Unanswered), true, time.Minute), 0},
		"503 of three keys that were taken before":           {join(taken(3), many(9, 3, of(sinks.Unavailable), true, 0)), 3 + 5},
		"503 of keys that were never taken, for a moment":    {many(299, 100, of(sinks.Unavailable), false, 10*time.Millisecond), 0},
		"503 of keys that were never taken, for ten seconds": {many(40, 100, of(sinks.Unavailable), false, 500*time.Millisecond), 21},
		"500 of one key":                                     {many(999, 1, status, true, time.Minute), 0},
		"500 of two keys that were taken before":             {join(taken(2), many(999, 2, status, false, time.Minute)), 0},
		"500 of many keys that were taken before, at once":   {join(taken(50), many(50, 50, status, false, time.Millisecond)), 0},
		"500 of many keys that were taken before":            {join(taken(50), many(50, 50, status, false, 200*time.Millisecond)), 50 + 20},
		"500 of many keys, first attempts, for a while":      {many(99, 50, status, false, time.Second), 20},
		"500 of many keys, first attempts, all at once":      {many(99, 50, status, false, 100*time.Millisecond), 0},
		"500 of thousands of poisoned keys that are retried": {many(5000, 5000, status, true, time.Second), 0},
		"500 of keys that were taken so long ago": {join(taken(3), func() (all []shown) {
			for i := range 300 {
				all = append(all, shown{key: 1000 + i})
			}
			return all
		}(), many(9, 3, of(sinks.Unavailable), true, 0)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			var e evidence
			var now instant
			for i, a := range c.story {
				now += instant(a.after)
				if a.err == nil {
					e.took(uint64(a.key))
					continue
				}
				e.failed(now, uint64(a.key), !a.again, a.err)
				if open := e.down(now, failuresInARow); open != (c.opens > 0 && i+1 >= c.opens) {
					t.Fatalf("attempt %d: open is %v, %s", i+1, open, fmt.Sprint(e.failures, e.unavailable.n, e.answered.n, e.known.n))
				}
				if c.opens > 0 && i+1 >= c.opens {
					return
				}
			}
		})
	}
}
