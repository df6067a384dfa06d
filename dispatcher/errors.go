package dispatcher

import (
	"errors"
	"fmt"
	"time"

	"keyhook"
	"keyhook/sinks"
)

// panicError is a panic inside a sink.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("the sink panicked: %v", e.value) }

// reasonOf names why a rejected delivery is dead.
func reasonOf(err error) keyhook.Reason {
	var p *panicError
	if errors.As(err, &p) {
		return keyhook.ReasonPanic
	}
	return keyhook.ReasonRejected
}

// retryAfter returns what the receiver asked for, capped.
func retryAfter(err error) time.Duration {
	var e *sinks.Error
	if !errors.As(err, &e) {
		return 0
	}
	return min(max(0, e.RetryAfter), maxRetryAfter)
}
