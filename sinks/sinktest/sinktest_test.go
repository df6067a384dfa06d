package sinktest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyhook"
	"keyhook/sinks"
	"keyhook/sinks/sinktest"
)

const (
	secret   = "hunter2!"
	faultEnv = "KEYHOOK_TEST_SINK_FAULT"
)

// Each fault of a sink, and the case that has to find it.
var faults = map[string]string{
	"lossy":      "an_acknowledgement_is_success",
	"cut bodies": "bodies_arrive_unharmed",
	"one kind":   "each_failure_has_its_kind",
	"impatient":  "each_failure_has_its_kind",
	"gullible":   "a_receiver_that_cannot_be_reached",
	"no reach":   "a_receiver_that_cannot_be_reached",
	"far":        "each_failure_has_its_kind",
	"no timeout": "the_sink's_own_timeout",
	"shuffled":   "errors_stand_in_the_order",
	"spends":     "cancelling_interrupts",
	"deaf":       "nothing_is_sent_after_a_stop",
	"serial":     "deliveries_go_in_parallel",
	"sulky":      "a_sink_works_again",
	"hoarder":    "nothing_of_a_delivery_is_kept",
	"talkative":  "each_failure_has_its_kind",
	"vandal":     "an_acknowledgement_is_success",
	"leaky":      "an_acknowledgement_is_success",
}

// A sink in memory passes; with a fault, which the environment names, it is
// what TestTheSuiteFindsFaults runs.
func TestConformance(t *testing.T) {
	fault := os.Getenv(faultEnv)
	if fault != "" {
		sinktest.SetPatience(2 * time.Second) // it will be in vain
	}
	sinktest.Run(t, sinktest.Harness{Open: func(_ *testing.T, opts sinktest.Options) *sinktest.Rig {
		r := &memory{changed: make(chan struct{}), closed: make(chan struct{})}
		return &sinktest.Rig{Sink: &sink{memory: r, opts: opts, fault: fault}, Receiver: r, Secrets: []string{secret}}
	}})
}

func TestTheSuiteFindsFaults(t *testing.T) {
	for fault, finder := range faults {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConformance$/"+finder)
			cmd.Env = append(os.Environ(), faultEnv+"="+fault)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(out, []byte("--- FAIL: TestConformance/"+finder)) {
				t.Errorf("it passed: %v\n%s", err, out)
			}
		})
	}
}

// memory is a receiver without a protocol.
type memory struct {
	mu       sync.Mutex
	answer   func(sinktest.Arrival) sinktest.Answer
	arrivals []sinktest.Arrival
	changed  chan struct{}
	closed   chan struct{}
	once     sync.Once
}

func (m *memory) Answer(fn func(sinktest.Arrival) sinktest.Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = fn
}

func (m *memory) Arrivals() []sinktest.Arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.arrivals)
}

func (m *memory) Await(ctx context.Context, n int) error {
	for {
		m.mu.Lock()
		got, changed := len(m.arrivals), m.changed
		m.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) Close() { m.once.Do(func() { close(m.closed) }) }

// receive returns the answer once it is given, or an error of ctx or of the
// connection.
func (m *memory) receive(ctx context.Context, a sinktest.Arrival) (sinktest.Answer, error) {
	select {
	case <-m.closed:
		return sinktest.Answer{}, errors.New("unreachable")
	default:
	}
	m.mu.Lock()
	m.arrivals = append(m.arrivals, a)
	close(m.changed)
	m.changed = make(chan struct{})
	fn := m.answer
	m.mu.Unlock()
	var answer sinktest.Answer
	if fn != nil {
		answer = fn(a)
	}
	wait := answer.Until
	switch {
	case answer.Verb == sinktest.Silence:
		wait = make(chan struct{})
	case wait == nil:
		done := make(chan struct{})
		close(done)
		wait = done
	}
	select {
	case <-wait:
		return answer, nil
	case <-m.closed:
		return answer, errors.New("closed")
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

// sink delivers to memory, with at most one fault.
type sink struct {
	*memory
	opts  sinktest.Options
	fault string

	serial sync.Mutex
	mu     sync.Mutex
	failed bool
	hoard  []*keyhook.Delivery
}

func (s *sink) Close() error {
	if s.fault == "leaky" {
		go func() { select {} }()
	}
	return nil
}

func (s *sink) Deliver(ctx context.Context, ds []*keyhook.Delivery) []error {
	if s.fault == "serial" {
		s.serial.Lock()
		defer s.serial.Unlock()
	}
	if s.fault == "hoarder" {
		s.mu.Lock()
		s.hoard = append(s.hoard, ds...)
		s.mu.Unlock()
	}
	errs := make([]error, len(ds))
	for i, d := range ds {
		errs[i] = s.attempt(ctx, d)
		if s.fault == "vandal" {
			d.Message.Body = nil
		}
	}
	if s.fault == "shuffled" {
		slices.Reverse(errs)
	}
	return errs
}

func (s *sink) attempt(parent context.Context, d *keyhook.Delivery) error {
	if s.fault == "lossy" {
		return nil
	}
	if parent.Err() != nil && s.fault != "deaf" {
		return &sinks.Error{Kind: sinks.Interrupted, Err: parent.Err()}
	}
	s.mu.Lock()
	sulks := s.failed && s.fault == "sulky"
	s.mu.Unlock()
	if sulks {
		return errors.New("no more")
	}
	ctx, cancel := parent, context.CancelFunc(func() {})
	if s.fault != "no timeout" {
		ctx, cancel = context.WithTimeout(parent, s.opts.Timeout)
	} else if s.opts.Timeout < time.Minute {
		ctx, cancel = context.WithTimeout(parent, time.Second)
		parent = ctx // its own timeout passes for the caller's
	}
	defer cancel()
	a := sinktest.Arrival{ID: d.ID, Body: bytes.Clone(d.Message.Body)}
	if s.fault == "cut bodies" {
		a.Body = bytes.TrimRight(a.Body, "\x00")
	}
	answer, err := s.receive(ctx, a)
	failure := s.judge(parent, answer, err)
	if failure != nil {
		s.mu.Lock()
		s.failed = true
		s.mu.Unlock()
	}
	return failure
}

func (s *sink) judge(parent context.Context, answer sinktest.Answer, err error) error {
	text := "the receiver would not"
	if s.fault == "talkative" {
		text += " take " + secret
	}
	e := &sinks.Error{Err: errors.New(text)}
	switch {
	case err != nil && parent.Err() != nil:
		if s.fault != "spends" {
			e.Kind = sinks.Interrupted
		}
	case err != nil:
		if s.fault == "gullible" && strings.Contains(err.Error(), "unreachable") {
			return nil
		}
		e.Reach = sinks.Unanswered
		if strings.Contains(err.Error(), "unreachable") && s.fault != "no reach" {
			e.Reach = sinks.Unconnected
		}
	case answer.Verb == sinktest.Accept:
		return nil
	case answer.Verb == sinktest.Break:
		e.Reach = sinks.Unanswered
	case answer.Verb == sinktest.Fail && s.fault == "far":
		e.Reach = sinks.Unconnected
	case s.fault == "one kind":
	case answer.Verb == sinktest.Reject:
		e.Kind = sinks.Rejected
	case answer.Verb == sinktest.Hold:
		e.Kind = sinks.Hold
	case answer.Verb == sinktest.Throttle:
		e.Kind, e.Reach, e.RetryAfter = sinks.Throttled, sinks.Unavailable, answer.After
		if s.fault == "impatient" {
			e.RetryAfter = 0
		}
	}
	return fmt.Errorf("memory: %w", e)
}
