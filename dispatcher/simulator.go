package dispatcher

import (
	"container/heap"
	"errors"
	"math"
	"time"

	"keyhook"
)

// Simulator does what a Dispatcher does, on a clock of its own: the machine
// decides, nothing is sent or stored, and hours pass as fast as they can be
// reckoned. Backoff has no jitter, breakers never open, commits take no time,
// and memory has no bound. It is for one goroutine.
type Simulator struct {
	cfg      SimulatorConfig
	m        *machine
	now      time.Time
	inFlight flights
	attempts int
	bound    int            // of attempts
	idle     int            // looks in a row that came to nothing
	fresh    bool           // something was admitted that nobody has looked at
	allowed  time.Time      // when the rates allow more; zero: they do not matter
	done     map[uint64]int // attempts at what is owed, by ordinal
}

// SimulatorConfig is what a Simulator needs.
type SimulatorConfig struct {
	Sinks []Sink    // their deliverers are not used
	Start time.Time // the clock at the beginning
	// Attempt answers an attempt as a sink does, and says how long that took.
	Attempt func(at time.Time, d *keyhook.Delivery) (took time.Duration, err error)
	// Ended is told how each delivery ended; may be nil.
	Ended func(Ending)
	// Story is as [Config.Story].
	Story func(dl *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery
}

// Ending is the end of a delivery.
type Ending struct {
	At       time.Time
	Delivery *keyhook.Delivery
	Outcome  keyhook.Outcome
	Reason   keyhook.Reason // of a dead letter
	Error    string         // of a dead letter
	Attempts int
}

// maxSimulated bounds the attempts of a simulation.
const maxSimulated = 1_000_000

// maxIdle bounds how often in a row there is said to be something to do when
// there is nothing.
const maxIdle = 100_000

// ErrEndless is returned by a simulation that has made a million attempts, or
// does not come to any.
var ErrEndless = errors.New("there is no end to the attempts")

// NewSimulator returns a simulator that owes nothing.
func NewSimulator(cfg SimulatorConfig) (*Simulator, error) {
	if cfg.Attempt == nil {
		return nil, errors.New("dispatcher: nothing answers the attempts of the simulation")
	}
	if cfg.Ended == nil {
		cfg.Ended = func(Ending) {}
	}
	machineConfig := Config{
		Sinks:        append([]Sink(nil), cfg.Sinks...),
		MemoryBudget: math.MaxInt64 / 8,
		Rand:         func() float64 { return 0.5 }, // the middle of the jitter
		Story:        cfg.Story,
	}
	for i := range machineConfig.Sinks {
		machineConfig.Sinks[i].setDefaults()
		machineConfig.Sinks[i].Breaker.Off = true // breakers go by the real clock
	}
	s := &Simulator{cfg: cfg, m: newMachine(&machineConfig), now: cfg.Start, bound: maxSimulated, done: make(map[uint64]int)}
	s.m.start, s.m.reading.all = cfg.Start, true
	return s, nil
}

// Now returns the time of the simulation.
func (s *Simulator) Now() time.Time { return s.now }

// Admit takes over a batch.
func (s *Simulator) Admit(b *Batch) {
	s.m.admit(s.moment(), b)
	s.fresh = true
}

// RunUntil lets time pass until at, and does what is due until then, at itself
// included.
func (s *Simulator) RunUntil(at time.Time) error {
	for {
		next, ok := s.Next()
		if !ok || next.After(at) {
			s.now = later(s.now, at)
			return nil
		}
		if err := s.work(next); err != nil {
			return err
		}
	}
}

// Settle does what is due now.
func (s *Simulator) Settle() error { return s.work(s.now) }

// Next returns when there is something to do, the present included; false if
// that is never.
func (s *Simulator) Next() (time.Time, bool) {
	next, ok := time.Time{}, false
	sooner := func(at time.Time) {
		if !ok || at.Before(next) {
			next, ok = later(at, s.now), true
		}
	}
	if s.fresh {
		sooner(s.now)
	}
	if len(s.inFlight) > 0 {
		sooner(s.inFlight[0].at)
	}
	if !s.allowed.IsZero() {
		sooner(s.allowed)
	}
	if at, some := s.m.wakeSinks(); some {
		sooner(s.cfg.Start.Add(time.Duration(at)))
	}
	if at, some := s.m.timers.wakeHeld(); some { // that a quiet time is over shows nowhere
		sooner(s.cfg.Start.Add(time.Duration(at)))
	}
	return next, ok
}

// Status describes the sinks.
func (s *Simulator) Status() []SinkStatus { return s.m.status() }

// work sets the clock to at and does all that is due then.
func (s *Simulator) work(at time.Time) error {
	s.now, s.fresh = at, false
	if s.idle++; s.idle > maxIdle {
		return ErrEndless
	}
	for {
		t := s.moment()
		s.m.tick(t)
		sends, wait := s.m.nextSends(t)
		for _, f := range sends {
			s.attempt(f)
		}
		if s.attempts > s.bound {
			return ErrEndless
		}
		answered := s.answer(t)
		s.report()
		if answered || len(sends) > 0 {
			s.idle = 0
			continue
		}
		if s.allowed = (time.Time{}); wait > 0 {
			s.allowed = s.now.Add(wait)
		}
		if s.m.cut() == nil {
			return nil
		}
		s.m.committed(t)
	}
}

func (s *Simulator) attempt(f send) {
	s.attempts++
	s.done[f.item.d.Ordinal]++
	took, err := s.cfg.Attempt(s.now, f.item.d)
	heap.Push(&s.inFlight, flight{at: s.now.Add(took), number: s.attempts, item: f.item, err: err})
}

// answer hands the machine the results that have come by now.
func (s *Simulator) answer(t moment) (came bool) {
	for len(s.inFlight) > 0 && !s.inFlight[0].at.After(s.now) {
		f := s.inFlight[0]
		heap.Pop(&s.inFlight)
		s.m.result(t, f.item, f.err)
		came = true
	}
	return came
}

func (s *Simulator) report() {
	for _, e := range s.m.ends {
		s.cfg.Ended(Ending{
			At: s.now, Delivery: e.d, Outcome: e.outcome, Reason: e.reason, Error: e.err, Attempts: s.done[e.d.Ordinal],
		})
		delete(s.done, e.d.Ordinal)
	}
	clear(s.m.ends)
	s.m.ends = s.m.ends[:0]
}

func (s *Simulator) moment() moment { return moment{instant(s.now.Sub(s.cfg.Start)), s.now} }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// flight is an attempt whose answer is on its way.
type flight struct {
	at     time.Time
	number int // of the attempt: answers of one moment come in that order
	item   *item
	err    error
}

// flights are ordered by when their answers come.
type flights []flight

var _ heap.Interface = (*flights)(nil)

func (f flights) Len() int { return len(f) }

func (f flights) Less(i, j int) bool {
	if !f[i].at.Equal(f[j].at) {
		return f[i].at.Before(f[j].at)
	}
	return f[i].number < f[j].number
}

func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *flights) Push(x any) {
	if one, ok := x.(flight); ok {
		*f = append(*f, one)
	}
}

func (f *flights) Pop() any {
	n := len(*f) - 1
	one := (*f)[n]
	*f = (*f)[:n]
	return one
}
