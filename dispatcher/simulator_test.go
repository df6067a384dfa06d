package dispatcher

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"keyhook"
	"keyhook/sinks"
)

// simulation is a simulator with a story: what was attempted and how it ended,
// each with the time since the start.
type simulation struct {
	*Simulator
	start   time.Time
	story   []string
	replies map[string][]error // by delivery; after the last one all succeed
}

func simulate(t *testing.T, all ...Sink) *simulation {
	t.Helper()
	sim := &simulation{start: time.Unix(1_700_000_000, 0), replies: map[string][]error{}}
	s, err := NewSimulator(SimulatorConfig{
		Sinks: all, Start: sim.start,
		Attempt: func(at time.Time, d *keyhook.Delivery) (time.Duration, error) {
			sim.story = append(sim.story, fmt.Sprintf("%s %s goes out", at.Sub(sim.start), d.ID))
			rest := sim.replies[d.ID]
			if len(rest) == 0 {
				return 0, nil
			}
			sim.replies[d.ID] = rest[1:]
			return 0, rest[0]
		},
		Ended: func(e Ending) {
			sim.story = append(sim.story, fmt.Sprintf("%s %s %s %s after %d", e.At.Sub(sim.start), e.Delivery.ID, e.Outcome, e.Reason, e.Attempts))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	sim.Simulator = s
	return sim
}

func (s *simulation) admit(key, id string) {
	s.Admit(&Batch{Deliveries: []*keyhook.Delivery{{
		ID: id, Rule: "r", Send: "s", Sink: "hook", Event: &keyhook.Event{Type: keyhook.Put, Key: []byte(key), Revision: 1},
	}}})
}

func (s *simulation) told(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.story, want) {
		t.Errorf("got\n%q\nwant\n%q", s.story, want)
	}
	s.story = nil
}

var err503 = errors.New("503")

func TestSimulatedRetry(t *testing.T) {
	s := simulate(t, Sink{Name: "hook", Retry: Retry{Initial: time.Second}})
	s.replies["a1"] = []error{err503, &sinks.Error{Kind: sinks.Throttled, RetryAfter: time.Minute, Err: err503}}
	s.admit("a", "a1")
	s.admit("a", "a2")
	s.admit("b", "b1")
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	s.told(t, "0s a1 goes out", "0s b1 goes out", "0s b1 delivered  after 1")
	if err := s.RunUntil(s.start.Add(time.Second - 1)); err != nil {
		t.Fatal(err)
	}
	s.told(t)
	// What is due at the end of a span belongs to it.
	if err := s.RunUntil(s.start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	s.told(t, "1s a1 goes out")
	if err := s.RunUntil(s.start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.told(t, "1m1s a1 goes out", "1m1s a1 delivered  after 3", "1m1s a2 goes out", "1m1s a2 delivered  after 1")
	if at, ok := s.Next(); ok {
		t.Errorf("there is something left to do at %s", at)
	}
	if got := s.Now().Sub(s.start); got != time.Hour {
		t.Errorf("the clock stands at %s", got)
	}
}

// The change behind a dead letter goes out once the dead letter is durable,
// which takes no time here.
func TestSimulatedDeadLetter(t *testing.T) {
	s := simulate(t, Sink{Name: "hook"})
	s.replies["a1"] = []error{&sinks.Error{Kind: sinks.Rejected, Err: errors.New("422")}}
	s.admit("a", "a1")
	s.admit("a", "a2")
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	s.told(t, "0s a1 goes out", "0s a1 dead rejected after 1", "0s a2 goes out", "0s a2 delivered  after 1")
}

// A rate makes deliveries wait for each other.
func TestSimulatedRate(t *testing.T) {
	s := simulate(t, Sink{Name: "hook", Rate: 0.1})
	for _, key := range []string{"a", "b", "c"} {
		s.admit(key, key+"1")
	}
	if err := s.RunUntil(s.start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.told(t, "0s a1 goes out", "0s a1 delivered  after 1", "10s b1 goes out", "10s b1 delivered  after 1",
		"20s c1 goes out", "20s c1 delivered  after 1")
}

// Three days of a dead sink are over in no time.
func TestSimulatedOutage(t *testing.T) {
	s := simulate(t, Sink{Name: "hook", Retry: Retry{MaxAge: 72 * time.Hour}})
	s.replies["a1"] = slices.Repeat([]error{err503}, 1000)
	s.admit("a", "a1")
	if err := s.RunUntil(s.start.Add(100 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got, want := s.story[len(s.story)-1], "72h7m3s a1 dead max_age after 442"; got != want {
		t.Errorf("it ended with %q, want %q", got, want)
	}
}

func TestSimulationWithoutEnd(t *testing.T) {
	s := simulate(t, Sink{Name: "hook"})
	s.bound = 3
	s.replies["a1"] = slices.Repeat([]error{err503}, 10)
	s.admit("a", "a1")
	if err := s.RunUntil(s.start.Add(time.Hour)); !errors.Is(err, ErrEndless) {
		t.Errorf("it ended with %v", err)
	}
}
