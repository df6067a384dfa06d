package webhook

import (
	"net/http"
	"strconv"
	"time"

	"keyhook/sinks"
)

// maxRetryAfter caps what a receiver may ask for.
const maxRetryAfter = time.Hour

// verdict is what a status means.
type verdict uint8

const (
	retry verdict = iota
	accept
	reject
	hold
)

// table holds the verdicts on the statuses 100 to 599; others are retried.
type table [500]verdict

func newTable() *table {
	t := new(table)
	for status := 200; status <= 299; status++ {
		t.set(status, accept)
	}
	for _, status := range []int{400, 405, 406, 413, 414, 415, 422, 431, 501} {
		t.set(status, reject)
	}
	t.set(http.StatusGone, hold)
	return t
}

func (t *table) set(status int, v verdict) { t[status-100] = v }

func (t *table) of(status int) verdict {
	if status < 100 || status > 599 {
		return retry
	}
	return t[status-100]
}

// judge returns what the dispatcher is to do about a response that is not a
// success, and how long the receiver wants to be left alone.
func (t *table) judge(status int, h http.Header, now time.Time) (sinks.Kind, time.Duration) {
	switch t.of(status) {
	case reject:
		return sinks.Rejected, 0
	case hold:
		return sinks.Hold, 0
	}
	after := retryAfter(h, now)
	if after > 0 || status == http.StatusTooManyRequests {
		return sinks.Throttled, after
	}
	return sinks.Retry, 0
}

// reach returns what a status says of the receiver as a whole.
func reach(status int) sinks.Reach {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return sinks.Unavailable
	}
	return sinks.Answered
}

// retryAfter reads Retry-After, in seconds or as a date; 0 where it is missing
// or makes no sense. A date is taken relative to the Date of the response, so
// that a clock that is wrong on either side does no harm.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	} else if isNumber(v) {
		return maxRetryAfter
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// isNumber reports whether v is digits only, of any length.
func isNumber(v string) bool {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	return v != ""
}
