package dispatcher

import (
	"testing"
	"time"

	"keyhook"
)

func (s *simulation) timed(key, id string, timing keyhook.Timing, cancels bool) {
	s.Admit(&Batch{Deliveries: []*keyhook.Delivery{{
		ID: id, Rule: "r", Send: "s", Sink: "hook", Timing: timing, Cancels: cancels,
		Event: &keyhook.Event{Type: keyhook.Put, Key: []byte(key), Revision: 1},
	}}})
}

// An hour of an unhealthy member is one delivery, a minute of one that was well
// again is none.
func TestSimulatedFor(t *testing.T) {
	s := simulate(t, Sink{Name: "hook"})
	minute := keyhook.Timing{For: time.Minute}
	s.timed("a", "a1", minute, false)
	s.timed("b", "b1", minute, false)
	if err := s.RunUntil(s.start.Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	s.timed("a", "a2", minute, false)
	s.timed("b", "b2", minute, true)
	if err := s.RunUntil(s.start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.told(t, "30s a2 absorbed  after 0", "30s b1 cancelled  after 0", "1m0s a1 goes out", "1m0s a1 delivered  after 1")
}

// Of what comes within five minutes the first goes out at once, the latest at
// their end. That nothing came in the next ones is nothing to wait for.
func TestSimulatedEvery(t *testing.T) {
	s := simulate(t, Sink{Name: "hook"})
	for _, id := range []string{"a1", "a2", "a3"} {
		s.timed("a", id, keyhook.Timing{Every: 5 * time.Minute}, false)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	s.told(t, "0s a1 goes out", "0s a2 superseded  after 0", "0s a1 delivered  after 1")
	next, ok := s.Next()
	if !ok || next != s.start.Add(5*time.Minute) {
		t.Fatalf("next: %s, %t", next, ok)
	}
	if err := s.RunUntil(next); err != nil {
		t.Fatal(err)
	}
	s.told(t, "5m0s a3 goes out", "5m0s a3 delivered  after 1")
	if next, ok := s.Next(); ok {
		t.Errorf("there is something to do at %s", next)
	}
}
