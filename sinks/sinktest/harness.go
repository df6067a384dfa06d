package sinktest

import (
	"context"
	"slices"
	"testing"
	"time"

	"keyhook/sinks"
)

// Harness connects the suite to one kind of sink.
type Harness struct {
	// Open starts a receiver and a sink that delivers to it.
	Open func(t *testing.T, opts Options) *Rig
	// OneConnection says that all deliveries share a connection, so that a break
	// of it is one for each of them that has no answer yet.
	OneConnection bool
	// Cannot lists answers that the protocol has no words for. Only Reject,
	// Throttle and Hold may be missing.
	Cannot []Verb
}

// Options are what the suite asks of a sink.
type Options struct {
	Timeout     time.Duration // of one attempt
	Concurrency int           // how many attempts there will be at once
}

// Rig is a sink with its receiver.
type Rig struct {
	Sink     sinks.Sink
	Receiver Receiver
	// Secrets are all that the configuration of the sink holds.
	Secrets []string
}

// Receiver is the other side. Its methods may be called while it receives.
type Receiver interface {
	// Answer sets how the deliveries that arrive from now on are answered; fn
	// may be called from several goroutines at once. Until then all are accepted.
	Answer(fn func(Arrival) Answer)
	// Arrivals returns what has arrived so far, whatever it was answered.
	Arrivals() []Arrival
	// Await returns once n deliveries have arrived in total.
	Await(ctx context.Context, n int) error
	// Close makes the receiver unreachable, cuts off what it has not answered,
	// and returns when nothing of it runs any more. Closing it again does
	// nothing.
	Close()
}

// Arrival is a delivery as it came out at the receiver.
type Arrival struct {
	ID   string
	Body []byte
}

// Verb is what a receiver does about a delivery.
type Verb uint8

// Verbs.
const (
	Accept   Verb = iota // acknowledge it
	Fail                 // say that it did not work this time
	Reject               // say that it never will
	Throttle             // say that it is too much, and when to come back
	Hold                 // say that no more deliveries are wanted at all
	Break                // break the connection without a word
	Silence              // say nothing until the sink leaves or the receiver is closed
)

func (v Verb) String() string {
	return [...]string{"accept", "fail", "reject", "throttle", "hold", "break", "silence"}[v]
}

// Answer is what a receiver does about a delivery, and when.
type Answer struct {
	Verb  Verb
	After time.Duration   // of Throttle: a whole number of seconds
	Until <-chan struct{} // if set, it is waited for first
}

func (h Harness) can(t *testing.T, v Verb) bool {
	t.Helper()
	if !slices.Contains(h.Cannot, v) {
		return true
	}
	if v != Reject && v != Throttle && v != Hold {
		t.Fatalf("a receiver must be able to %s", v)
	}
	return false
}
