package dispatcher

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

// maxRetryAfter caps what a receiver may ask for.
const maxRetryAfter = time.Hour

// next returns the interval that follows last (0: none yet), without jitter.
func (r Retry) next(last time.Duration) time.Duration {
	// The library keeps its interval to itself, and draws its own random
	// numbers: it is started where the persisted interval stands, without
	// randomness, and asked for what comes next.
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(max(last, r.Initial)),
		backoff.WithMultiplier(r.Multiplier),
		backoff.WithMaxInterval(r.Max),
		backoff.WithRandomizationFactor(0),
		backoff.WithMaxElapsedTime(0),
	)
	d := b.NextBackOff()
	if last > 0 {
		d = b.NextBackOff()
	}
	return min(d, r.Max)
}

// jittered varies d by up to r.Jitter both ways; u is uniform in [0, 1).
func (r Retry) jittered(d time.Duration, u float64) time.Duration {
	return max(0, time.Duration(float64(d)*(1+r.Jitter*(2*u-1))))
}

// longest is the latest that a delivery can be due from now. A due time beyond
// it comes from a clock that has jumped.
func (r Retry) longest() time.Duration {
	return max(time.Duration(float64(r.Max)*(1+r.Jitter)), maxRetryAfter)
}

// exhausted reports whether the attempts, or the age since admission, are used
// up, and by which of the two.
func (r Retry) exhausted(attempts int, age time.Duration) (byAttempts, byAge bool) {
	return r.MaxAttempts > 0 && attempts >= r.MaxAttempts, r.MaxAge > 0 && age >= r.MaxAge
}

// allowed cuts what a receiver asks for to what is left of MaxAge, so that the
// last attempt is made then and not an hour later.
func (r Retry) allowed(asked, age time.Duration) time.Duration {
	if r.MaxAge <= 0 {
		return asked
	}
	return min(asked, r.MaxAge-age)
}
