package robustness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// scenario says what trouble there may be.
type scenario struct {
	name   string
	faults []string
	steps  int
	// gaps: history may be compacted or rolled back behind keyhook's back. Without,
	// a gap is a violation.
	gaps bool
}

// The parts of a setup that trouble concerns. Two kinds of trouble with the same
// part never overlap.
type part int

const (
	etcdMembers part = iota
	network
	etcdHistory
	keyhookProcess
)

// step is one piece of trouble, drawn.
type step struct {
	fault string
	// member is the one that it is about, if it is about one.
	member int
	// amount sizes it: a delay, a number of changes, of rounds.
	amount int
	// dwell is how long it lasts, or what comes after it takes to begin.
	dwell time.Duration
	// within is trouble that begins and ends while this one lasts.
	within *step
}

func (s step) String() string {
	text := fmt.Sprintf("%s member=%d amount=%d for %v", s.fault, s.member, s.amount, s.dwell)
	if s.within != nil {
		text += " [" + s.within.String() + "]"
	}
	return text
}

// plan draws the steps of a scenario. It depends on the seed alone.
func (s scenario) plan(seed uint64) []step {
	rng := rand.New(rand.NewPCG(seed, 1))
	steps := make([]step, 0, s.steps)
	// Every fault has its turn before one comes again.
	var bag []string
	restored := false
	for len(steps) < s.steps {
		if len(bag) == 0 {
			bag = slices.Clone(s.faults)
			rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		next := draw(rng, bag[0])
		bag = bag[1:]
		if isRestore(next.fault) {
			// What keyhook delivered of a history that was taken back while it was
			// being killed, nobody can take back: one restore, and nothing beside it.
			if restored {
				continue
			}
			restored = true
		} else if rng.IntN(3) == 0 {
			// The faults of a scenario, on another part.
			other := draw(rng, s.faults[rng.IntN(len(s.faults))])
			if !isRestore(other.fault) && !overlap(next.fault, other.fault) {
				next.within = &other
			}
		}
		steps = append(steps, next)
	}
	return steps
}

func draw(rng *rand.Rand, fault string) step {
	return step{
		fault:  fault,
		member: rng.IntN(3),
		amount: 1 + rng.IntN(50),
		dwell:  time.Duration(100+rng.IntN(1400)) * time.Millisecond,
	}
}

func overlap(a, b string) bool {
	return slices.ContainsFunc(faults[a].parts, func(p part) bool { return slices.Contains(faults[b].parts, p) })
}

func TestAPlanDependsOnItsSeedAlone(t *testing.T) {
	for _, s := range scenarios() {
		for _, name := range s.faults {
			if _, ok := faults[name]; !ok {
				t.Errorf("%s: there is no fault %q", s.name, name)
			}
		}
		first, again, other := fmt.Sprint(s.plan(7)), fmt.Sprint(s.plan(7)), fmt.Sprint(s.plan(8))
		if first != again {
			t.Errorf("%s: one seed gives two plans:\n%s\n%s", s.name, first, again)
		}
		if first == other {
			t.Errorf("%s: two seeds give one plan: %s", s.name, first)
		}
		for _, step := range s.plan(7) {
			if step.within != nil && overlap(step.fault, step.within.fault) {
				t.Errorf("%s: %v troubles one part twice", s.name, step)
			}
		}
	}
}
