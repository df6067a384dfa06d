package sinks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyhook"
)

// Sink delivers messages. Its methods may be called from several goroutines at
// once.
type Sink interface {
	// Deliver makes one attempt at each delivery and returns one error for each,
	// in the same order; nil means that the receiver has acknowledged it. It
	// returns once every outcome is known or ctx is done, and keeps nothing of
	// ds. Errors are of type [*Error] wherever something better than a plain
	// retry is meant; their text holds no secret.
	Deliver(ctx context.Context, ds []*keyhook.Delivery) []error

	// Close releases what the sink holds. No Deliver runs or follows.
	Close() error
}

// Batcher is a sink that delivers several at once faster than one after the
// other.
type Batcher interface {
	Sink
	// Batch returns how many deliveries it likes to be given at once. All of them
	// are answered when the last one is.
	Batch() int
}

// Kind is what the dispatcher does about a failed attempt.
type Kind uint8

const (
	// Retry: try again after the backoff. Any error without a kind means this.
	Retry Kind = iota
	// Throttled: as Retry, and not before RetryAfter.
	Throttled
	// Rejected: the receiver will never take this delivery: a dead letter.
	Rejected
	// Hold: the receiver wants nothing any more; all of its deliveries stay owed.
	Hold
	// Interrupted: cut off by this side; the outcome is unknown and no attempt
	// is spent.
	Interrupted
)

func (k Kind) String() string {
	switch k {
	case Retry:
		return "retry"
	case Throttled:
		return "throttled"
	case Rejected:
		return "rejected"
	case Hold:
		return "hold"
	case Interrupted:
		return "interrupted"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Reach is what a failed attempt says of the receiver as a whole, whatever was
// delivered: whether there is any sense in trying something else.
type Reach uint8

const (
	// Answered: the receiver took the delivery and failed, which may be about
	// this delivery alone. Any error without a reach means this.
	Answered Reach = iota
	// Unavailable: it answered that it takes nothing at the moment, or something
	// in front of it did (429, 502, 503, 504).
	Unavailable
	// Unanswered: a timeout, or a connection that broke.
	Unanswered
	// Unconnected: no connection could be made.
	Unconnected
)

func (r Reach) String() string {
	switch r {
	case Answered:
		return "answered"
	case Unavailable:
		return "unavailable"
	case Unanswered:
		return "unanswered"
	case Unconnected:
		return "unconnected"
	default:
		return fmt.Sprintf("reach %d", uint8(r))
	}
}

// Error is a failed attempt.
type Error struct {
	Kind       Kind
	Reach      Reach
	RetryAfter time.Duration // as the receiver asked; 0 if it did not
	Status     int           // of the protocol, such as an HTTP status; 0 if none came
	Err        error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Kind.String()
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err, Retry for an error of any other type.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Retry
}
