package dispatcher

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"keyhook"
	"keyhook/checkpoint"
)

// order does what somebody asks for in a story.
func (st *story) order(t *testing.T, out *strings.Builder, td *datadriven.TestData) {
	t.Helper()
	args := make([]string, len(td.CmdArgs))
	for i, a := range td.CmdArgs {
		args[i] = a.Key
	}
	n := 0
	switch td.Cmd {
	case "pause", "resume":
		ok := st.m.resume
		if td.Cmd == "pause" {
			ok = func(name string) bool { return st.m.pause(st.now.wall, name) }
		}
		if !ok(args[0]) {
			out.WriteString("there is no such sink\n")
		}
		return
	case "retention":
		st.retention(t, td)
		return
	case "letters":
		for dl, err := range st.store.DeadLetters(t.Context(), 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(out, "%s (%s)\n", dl.Delivery.ID, dl.Reason)
		}
		return
	case "requeue":
		n = st.m.requeue(st.now, st.letters(t, args))
	case "discard":
		var numbers []uint64
		for _, r := range st.letters(t, args) {
			numbers = append(numbers, r.Number)
		}
		n = st.m.discard(numbers)
	case "purge":
		n = st.purge(t, args)
	}
	fmt.Fprintf(out, "%d of %d\n", n, len(args))
}

func (st *story) retention(t *testing.T, td *datadriven.TestData) {
	t.Helper()
	for _, a := range td.CmdArgs {
		switch a.Key {
		case "max_number":
			st.cfg.Retention.MaxNumber = number(t, a.Vals[0])
		case "max_bytes":
			st.cfg.Retention.MaxBytes = int64(number(t, a.Vals[0]))
		case "max_age":
			st.cfg.Retention.MaxAge = duration(t, a.Vals[0])
		default:
			t.Fatalf("%s: no such argument: %s", td.Pos, a.Key)
		}
	}
	st.m.retention = st.cfg.Retention
	st.m.tick(st.now)
}

// letters returns the dead letters of ids as the store has them.
func (st *story) letters(t *testing.T, ids []string) (all []Requeue) {
	t.Helper()
	for dl, err := range st.store.DeadLetters(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ids, dl.Delivery.ID) {
			d := *dl.Delivery
			d.Rejected = nil
			all = append(all, Requeue{dl.Number, &d})
		}
	}
	return all
}

func (st *story) purge(t *testing.T, ids []string) int {
	t.Helper()
	var refs []checkpoint.Ref
	for a, err := range st.store.Deliveries(t.Context(), 0, checkpoint.Ref{}) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ids, a.Delivery.ID) {
			refs = append(refs, checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal})
		}
	}
	owed, err := st.store.Find(t.Context(), 0, refs)
	if err != nil {
		t.Fatal(err)
	}
	return st.m.purge(st.now, owed)
}

// tell makes the story of a dead letter.
func tell(dl *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery {
	of := dl.Delivery
	if of.Send == "story" {
		return nil
	}
	return &keyhook.Delivery{ID: fmt.Sprintf("%s-story-%d", of.ID, number), Rule: of.Rule, Send: "story", Sink: sink, Event: of.Event}
}

// clocked is a breaker on the clock of a test. [TestTheBreakersAgree] holds it
// against the real one.
type clocked struct {
	cfg   Breaker
	now   *moment
	is    breakerState
	open  time.Duration
	until instant
	era   int // in flight from an earlier one: no matter
	tries int // probes that were let through,
	good  int // and have succeeded
}

var _ breaker = (*clocked)(nil)

func (b *clocked) state() (breakerState, time.Time) {
	if b.is == breakerOpen && b.now.now > b.until {
		b.turn(breakerHalfOpen)
	}
	if b.is == breakerOpen {
		return b.is, b.now.wall.Add(time.Duration(b.until-b.now.now) + time.Millisecond)
	}
	return b.is, time.Time{}
}

func (b *clocked) turn(to breakerState) {
	b.is, b.tries, b.good = to, 0, 0
	b.era++
	if to == breakerOpen {
		b.until = b.now.now + instant(b.open)
	}
}

func (b *clocked) begin() (func(verdict), bool) {
	is, _ := b.state()
	if is == breakerOpen || is == breakerHalfOpen && b.tries == b.cfg.Probes {
		return nil, false
	}
	b.tries++
	era := b.era
	return func(v verdict) {
		if era != b.era {
			return
		}
		switch {
		case v == nothing:
			b.tries--
		case b.is == breakerClosed && v == down:
			b.turn(breakerOpen)
		case b.is == breakerHalfOpen && v == alive:
			if b.good++; b.good == b.cfg.Probes {
				b.open = b.cfg.Open
				b.turn(breakerClosed)
			}
		case b.is == breakerHalfOpen:
			b.open = min(2*b.open, b.cfg.longest())
			b.turn(breakerOpen)
		}
	}, true
}
