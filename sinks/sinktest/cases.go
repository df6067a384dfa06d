package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"

	"keyhook"
	"keyhook/sinks"
)

func (s suite) acknowledges(t *testing.T) {
	r := s.open(t, Options{})
	d := delivery(7, []byte("hello"))
	if err := allFine(r.deliver(t.Context(), d)); err != nil {
		t.Fatal(err)
	}
	got := r.Receiver.Arrivals()
	if len(got) != 1 || got[0].ID != d.ID || string(got[0].Body) != "hello" {
		t.Errorf("arrived: %+v", got)
	}
	if errs := r.deliver(t.Context()); len(errs) != 0 {
		t.Errorf("no deliveries gave %v", errs)
	}
}

func (s suite) bodies(t *testing.T) {
	r := s.open(t, Options{})
	large := make([]byte, 3<<19) // 1.5 MiB
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(large) // never fails
	bodies := [][]byte{nil, {0}, []byte("\xff\xfe\x00 not UTF-8\r\n\r\n"), []byte(`{"a":"ü"}`), large}
	for i, body := range bodies {
		if err := allFine(r.deliver(t.Context(), delivery(i+1, body))); err != nil {
			t.Fatalf("body %d: %v", i, err)
		}
	}
	got := r.Receiver.Arrivals()
	if len(got) != len(bodies) {
		t.Fatalf("%d of %d arrived", len(got), len(bodies))
	}
	for i, body := range bodies {
		if !bytes.Equal(got[i].Body, body) {
			t.Errorf("body %d of %d bytes arrived as %d other bytes", i, len(body), len(got[i].Body))
		}
	}
}

func (s suite) kinds(t *testing.T) {
	for verb, want := range map[Verb]sinks.Kind{
		Fail: sinks.Retry, Break: sinks.Retry, Reject: sinks.Rejected, Throttle: sinks.Throttled, Hold: sinks.Hold,
	} {
		if !s.h.can(t, verb) {
			continue
		}
		t.Run(verb.String(), func(t *testing.T) {
			r := s.open(t, Options{})
			r.Receiver.Answer(func(Arrival) Answer { return Answer{Verb: verb, After: 7 * time.Second} })
			err := r.deliver(t.Context(), delivery(1, []byte("x")))[0]
			r.want(err, want)
			switch verb {
			case Fail:
				r.reach(err, sinks.Answered, sinks.Unavailable)
			case Break:
				r.reach(err, sinks.Unanswered)
			case Throttle:
				r.reach(err, sinks.Unavailable)
			}
			var e *sinks.Error
			if verb == Throttle && (!errors.As(err, &e) || e.RetryAfter != 7*time.Second) {
				t.Errorf("come back in 7s was understood as %#v", err)
			}
			if n := len(r.Receiver.Arrivals()); n != 1 {
				t.Errorf("one attempt arrived %d times", n)
			}
		})
	}
}

func (s suite) unreachable(t *testing.T) {
	r := s.open(t, Options{})
	r.Receiver.Close()
	err := r.deliver(t.Context(), delivery(1, []byte("x")))[0]
	r.want(err, sinks.Retry)
	r.reach(err, sinks.Unconnected)
}

func (s suite) timeout(t *testing.T) {
	r := s.open(t, Options{Timeout: 50 * time.Millisecond})
	arrived := make(chan string, 1000)
	r.Receiver.Answer(func(a Arrival) Answer {
		arrived <- a.ID
		return Answer{Verb: Silence}
	})
	over := time.After(patience)
	for n := 1; ; n++ {
		d := delivery(n, []byte("x"))
		err := r.deliver(t.Context(), d)[0]
		r.want(err, sinks.Retry)
		select {
		case <-over:
			t.Fatal("nothing arrives")
		case id := <-arrived:
			if id != d.ID {
				continue // came when the sink had given up
			}
			r.reach(err, sinks.Unanswered)
			return
		default: // it had not come that far in time
		}
	}
}

func (s suite) order(t *testing.T) {
	r := s.open(t, Options{})
	verbs := []Verb{Accept, Fail, Accept, Break, Accept, Accept, Fail}
	if s.h.OneConnection {
		verbs[3] = Fail
	}
	if s.h.can(t, Reject) {
		verbs[4] = Reject
	}
	var ds []*keyhook.Delivery
	answers := make(map[string]Verb)
	for i, verb := range verbs {
		d := delivery(i+1, fmt.Appendf(nil, "body %d", i))
		ds, answers[d.ID] = append(ds, d), verb
	}
	r.Receiver.Answer(func(a Arrival) Answer { return Answer{Verb: answers[a.ID]} })
	for i, err := range r.deliver(t.Context(), ds...) {
		switch verbs[i] {
		case Accept:
			if err != nil {
				t.Errorf("delivery %d was accepted: %v", i, err)
			}
		case Reject:
			r.want(err, sinks.Rejected)
		default:
			r.want(err, sinks.Retry)
		}
	}
}

func (s suite) cancel(t *testing.T) {
	r := s.open(t, Options{})
	r.Receiver.Answer(func(Arrival) Answer { return Answer{Verb: Silence} })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	result := r.delivering(ctx, delivery(1, []byte("x")), delivery(2, []byte("y")))
	r.await(1)
	stop()
	errs := r.prompt(result)
	if len(errs) != 2 {
		t.Fatalf("2 deliveries, %d errors", len(errs))
	}
	for _, err := range errs {
		r.want(err, sinks.Interrupted)
	}
}

func (s suite) deadline(t *testing.T) {
	r := s.open(t, Options{})
	r.Receiver.Answer(func(Arrival) Answer { return Answer{Verb: Silence} })
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	r.want(r.prompt(r.delivering(ctx, delivery(1, []byte("x"))))[0], sinks.Interrupted)
}

func (s suite) stopped(t *testing.T) {
	r := s.open(t, Options{})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, err := range r.deliver(ctx, delivery(1, []byte("x")), delivery(2, []byte("y"))) {
		r.want(err, sinks.Interrupted)
	}
	if got := r.Receiver.Arrivals(); len(got) != 0 {
		t.Errorf("%d arrived", len(got))
	}
}

func (s suite) parallel(t *testing.T) {
	const rounds = 3
	r := s.open(t, Options{Concurrency: parallel})
	for round := range rounds {
		// Nobody is answered before all have arrived.
		all := make(chan struct{})
		r.Receiver.Answer(func(Arrival) Answer { return Answer{Until: all} })
		var results []<-chan []error
		for i := range parallel {
			results = append(results, r.delivering(t.Context(), delivery(round*parallel+i+1, []byte("x"))))
		}
		r.await((round + 1) * parallel)
		close(all)
		for _, result := range results {
			if err := allFine(r.prompt(result)); err != nil {
				t.Error(err)
			}
		}
	}
	ids := make(map[string]int)
	for _, a := range r.Receiver.Arrivals() {
		ids[a.ID]++
	}
	if len(ids) != rounds*parallel {
		t.Errorf("%d distinct deliveries arrived, not %d", len(ids), rounds*parallel)
	}
}

func (s suite) recovers(t *testing.T) {
	r := s.open(t, Options{})
	for i, verb := range []Verb{Fail, Break, Fail} {
		r.Receiver.Answer(func(Arrival) Answer { return Answer{Verb: verb} })
		r.want(r.deliver(t.Context(), delivery(1, []byte("x")))[0], sinks.Retry)
		r.Receiver.Answer(func(Arrival) Answer { return Answer{} })
		if err := allFine(r.deliver(t.Context(), delivery(1, []byte("x")))); err != nil {
			t.Errorf("after failure %d: %v", i, err)
		}
	}
}

// keepsNothing overwrites deliveries right after they were cut off, which the
// race detector sees if the sink still reads them, and waits for the collector
// to find them free.
func (s suite) keepsNothing(t *testing.T) {
	r := s.open(t, Options{})
	r.Receiver.Answer(func(Arrival) Answer { return Answer{Verb: Silence} })
	var kept []weak.Pointer[keyhook.Delivery]
	for i := range 20 {
		func() {
			ds := []*keyhook.Delivery{delivery(i+1, make([]byte, 1<<20))}
			kept = append(kept, weak.Make(ds[0]))
			ctx, stop := context.WithCancel(t.Context())
			result := r.delivering(ctx, ds...)
			for range i * 100 { // another moment each time
				runtime.Gosched()
			}
			stop()
			r.want(r.prompt(result)[0], sinks.Interrupted)
			for j := range ds[0].Message.Body {
				ds[0].Message.Body[j] = 0xff
			}
			ds[0].Message.Headers[0] = keyhook.Header{}
			ds[0] = nil
		}()
	}
	over, look := time.After(patience), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		runtime.GC()
		kept = slices.DeleteFunc(kept, func(p weak.Pointer[keyhook.Delivery]) bool { return p.Value() == nil })
		if len(kept) == 0 {
			return
		}
		select {
		case <-look.C:
		case <-over:
			t.Fatalf("%d of 20 deliveries are still held", len(kept))
		}
	}
}
