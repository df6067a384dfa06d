package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook"
	"keyhook/sinks"
)

// patience is how long the suite waits for what has to happen at once.
var patience = 20 * time.Second

// parallel is how many deliveries go at once.
const parallel = 16

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	s := suite{h}
	t.Run("an acknowledgement is success", s.acknowledges)
	t.Run("bodies arrive unharmed", s.bodies)
	t.Run("each failure has its kind", s.kinds)
	t.Run("a receiver that cannot be reached is retried", s.unreachable)
	t.Run("the sink's own timeout is a retry", s.timeout)
	t.Run("errors stand in the order of deliveries", s.order)
	t.Run("cancelling interrupts at once", s.cancel)
	t.Run("a deadline of the caller interrupts", s.deadline)
	t.Run("nothing is sent after a stop", s.stopped)
	t.Run("deliveries go in parallel", s.parallel)
	t.Run("a sink works again after failures", s.recovers)
	t.Run("nothing of a delivery is kept", s.keepsNothing)
}

type suite struct{ h Harness }

// rig is an opened Rig that checks every Deliver.
type rig struct {
	*Rig
	t *testing.T
}

func (s suite) open(t *testing.T, opts Options) rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	if opts.Timeout == 0 {
		opts.Timeout = time.Minute
	}
	if opts.Concurrency == 0 {
		opts.Concurrency = parallel
	}
	r := rig{s.h.Open(t, opts), t}
	if len(r.Secrets) == 0 {
		t.Fatal("a rig without secrets cannot show that none is told")
	}
	t.Cleanup(func() {
		if err := r.Sink.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		r.Receiver.Close()
		goleak.VerifyNone(t, before)
	})
	return r
}

// deliver is Deliver with everything checked that holds for each of them.
func (r rig) deliver(ctx context.Context, ds ...*keyhook.Delivery) []error {
	r.t.Helper()
	before := make([]*keyhook.Delivery, len(ds))
	for i, d := range ds {
		before[i] = clone(d)
	}
	errs := r.Sink.Deliver(ctx, ds)
	if len(errs) != len(ds) {
		r.t.Fatalf("%d deliveries, %d errors", len(ds), len(errs))
	}
	for i, d := range ds {
		if !reflect.DeepEqual(d, before[i]) {
			r.t.Errorf("delivery %s was changed to %+v", before[i].ID, d)
		}
	}
	for _, err := range errs {
		r.silent(err)
	}
	return errs
}

// silent checks that err and all it wraps hold no secret.
func (r rig) silent(err error) {
	r.t.Helper()
	if err == nil {
		return
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		for _, secret := range r.Secrets {
			if strings.Contains(text, secret) {
				r.t.Errorf("the secret %q shows in %s", secret, text)
			}
		}
	}
	switch wrapped := err.(type) { //nolint:errorlint // walks the tree itself
	case interface{ Unwrap() error }:
		r.silent(wrapped.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range wrapped.Unwrap() {
			r.silent(err)
		}
	}
}

func (r rig) want(err error, kind sinks.Kind) {
	r.t.Helper()
	switch {
	case err == nil:
		r.t.Errorf("delivered, want %s", kind)
	case sinks.KindOf(err) != kind:
		r.t.Errorf("%s (%v), want %s", sinks.KindOf(err), err, kind)
	case err.Error() == "":
		r.t.Error("an error without a text")
	}
}

// reach checks what a failed attempt says of the receiver as a whole.
func (r rig) reach(err error, want ...sinks.Reach) {
	r.t.Helper()
	var e *sinks.Error
	if !errors.As(err, &e) {
		e = &sinks.Error{}
	}
	if !slices.Contains(want, e.Reach) {
		r.t.Errorf("the receiver is %s (%v), want %v", e.Reach, err, want)
	}
}

// await waits until n deliveries have arrived.
func (r rig) await(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.Receiver.Await(ctx, n); err != nil {
		r.t.Fatalf("waiting for %d arrivals: %v", n, err)
	}
}

// delivering starts a Deliver; the channel brings its errors.
func (r rig) delivering(ctx context.Context, ds ...*keyhook.Delivery) <-chan []error {
	result := make(chan []error, 1)
	go func() { result <- r.Sink.Deliver(ctx, ds) }()
	return result
}

// prompt returns what result brings, which has to happen at once.
func (r rig) prompt(result <-chan []error) []error {
	r.t.Helper()
	select {
	case errs := <-result:
		for _, err := range errs {
			r.silent(err)
		}
		return errs
	case <-time.After(patience):
		r.t.Fatal("Deliver does not return")
		return nil
	}
}

// delivery returns one that a rule may have made.
func delivery(n int, body []byte) *keyhook.Delivery {
	e := &keyhook.Event{
		Type: keyhook.Put, Key: []byte("/service/a/leader"), Value: []byte("postgresql1"),
		Revision: int64(n), CreateRevision: 1, Version: 2, Time: time.Unix(1700000000, 0),
	}
	return &keyhook.Delivery{
		ID:   keyhook.DeliveryID("/etcd/test", 1, e, "rule", "send"),
		Rule: "rule", Send: "send", Sink: "sink", Event: e,
		Message: keyhook.Message{
			ContentType: "application/octet-stream", Body: body, Subject: "test.subject",
			Headers: []keyhook.Header{{Name: "X-Team", Value: "storage"}},
		},
		Ordinal: uint64(n), Admitted: time.Unix(1700000001, 0),
	}
}

func clone(d *keyhook.Delivery) *keyhook.Delivery {
	c := *d
	c.Message.Body = bytes.Clone(d.Message.Body)
	c.Message.Headers = append([]keyhook.Header(nil), d.Message.Headers...)
	e := *d.Event
	e.Key, e.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
	c.Event = &e
	return &c
}

// allFine returns an error unless every one of errs is nil.
func allFine(errs []error) error { return errors.Join(errs...) }
