package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/sinks"
)

// TestStories runs the scripts in testdata: each drives a machine by hand, with
// the clock and the store in the script's hands.
//
//	sink NAME [concurrency=N] [rate=N] [max_attempts=N] [max_age=D] [max_owed=N] [dead_letter=SINK] [breaker[=PROBES]]
//	admit                    a line each: RULE SINK KEY ID [none|newest] [size=N] [rejected=REASON] [delete]
//	                         [for=D] [every=D] [cancels] [chain=NAME]
//	rules                    a line each: RULE SINK [for=D] [every=D] [keys=PREFIX], or: rule|sink OLD is NEW
//	read                     everything that was committed by now has been read
//	send                     what goes out now
//	answer ID ok|fail|503|timeout|refused|reject|hold|cut|throttle=D
//	pass D                   time goes by
//	clock D                  the wall clock alone jumps
//	commit · cut · durable   a whole commit, its beginning, its end
//	load · loading · loaded  chains come in from disk; they are read, and come later
//	crash                    a new process on the same store
//	forget                   … and without sinks
//	budget N                 bytes of memory
//	flood RULE SINK N        admits one change of each of N keys
//	fail                     what may go out does, and fails
//	sends                    as send, but counted only
//	pause · resume NAME
//	requeue · discard · purge ID...
//	retention [max_number=N] [max_age=D] [max_bytes=N]
//	letters                  the dead letters that the store has
//	status
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		st := &story{store: checkpointtest.NewMemory(), now: moment{0, time.Unix(1_700_000_000, 0)}}
		st.cfg = Config{
			Store: st.store, Rand: func() float64 { return 0.5 }, Story: tell,
			breakers: func(cfg Breaker) breaker { return &clocked{cfg: cfg, open: cfg.Open, now: &st.now} },
		}
		if err := st.cfg.setDefaults(); err != nil {
			t.Fatal(err)
		}
		st.open(t)
		datadriven.RunTest(t, path, st.run)
	})
}

type story struct {
	store    *checkpointtest.Memory
	cfg      Config
	m        *machine
	now      moment
	inFlight []send
	pages    []page
	running  *checkpoint.Commit
	revision int64 // of the last read
}

func (st *story) open(t *testing.T) {
	st.m = newMachine(&st.cfg)
	st.m.start, st.now.now = st.now.wall, 0
	if _, err := st.m.restore(context.Background(), st.now, st.store); err != nil {
		t.Fatal(err)
	}
	st.inFlight, st.pages, st.running = nil, nil, nil
}

// loading reads what is to come in from disk.
func (st *story) loading(t *testing.T) {
	st.m.tick(st.now)
	st.read(t, st.m.nextLoads(st.now))
}

func (st *story) read(t *testing.T, loads []load) {
	for _, l := range loads {
		ds, err := st.store.Read(t.Context(), 0, l.number, l.chain, l.from, l.maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		st.pages = append(st.pages, page{load: l, ds: ds})
	}
}

// loaded hands over what was read, and what is read because of it.
func (st *story) loaded(t *testing.T, out *strings.Builder) {
	for ; len(st.pages) > 0; st.pages = st.pages[1:] {
		for _, d := range st.pages[0].ds {
			fmt.Fprintf(out, "%s from disk\n", d.ID)
		}
		more, err := st.m.loaded(st.now, st.pages[0].load, st.pages[0].ds)
		if err != nil {
			t.Fatal(err)
		}
		st.read(t, more)
	}
}

func (st *story) run(t *testing.T, td *datadriven.TestData) string {
	var out strings.Builder
	switch td.Cmd {
	case "budget":
		st.m.budget = int64(number(t, td.CmdArgs[0].Key))
		st.cfg.MemoryBudget = st.m.budget
	case "sink":
		st.sink(t, td)
	case "forget":
		st.cfg.Sinks = nil
	case "admit":
		st.admit(t, td.Input)
	case "send":
		st.m.tick(st.now)
		sends, wait := st.m.nextSends(st.now)
		for _, s := range sends {
			fmt.Fprintf(&out, "%s → %s\n", s.item.d.ID, s.sink.name)
		}
		if wait > 0 {
			fmt.Fprintf(&out, "the next may go in %s\n", wait.Round(time.Millisecond))
		}
		st.inFlight = append(st.inFlight, sends...)
	case "answer":
		st.answer(t, &out, td)
	case "flood":
		var lines strings.Builder
		for i := range number(t, td.CmdArgs[2].Key) {
			fmt.Fprintf(&lines, "%s %s key%d x%d\n", td.CmdArgs[0].Key, td.CmdArgs[1].Key, i, i)
		}
		st.admit(t, lines.String())
	case "fail":
		sends, _ := st.m.nextSends(st.now)
		for _, s := range sends {
			st.m.result(st.now, s.item, errors.New("503"))
		}
		fmt.Fprintf(&out, "%d failed\n", len(sends))
	case "sends":
		sends, _ := st.m.nextSends(st.now)
		st.inFlight = append(st.inFlight, sends...)
		fmt.Fprintf(&out, "%d go out\n", len(sends))
	case "pass":
		d := duration(t, td.CmdArgs[0].Key)
		st.now.now += instant(d)
		st.now.wall = st.now.wall.Add(d)
	case "clock":
		st.now.wall = st.now.wall.Add(duration(t, td.CmdArgs[0].Key))
	case "commit":
		st.cut(&out)
		st.durable(t)
	case "cut":
		st.cut(&out)
	case "durable":
		st.durable(t)
	case "load":
		st.loading(t)
		st.loaded(t, &out)
	case "loading":
		st.loading(t)
	case "loaded":
		st.loaded(t, &out)
	case "rules":
		st.rules(t, td.Input)
	case "read":
		st.revision++
		st.m.reading.states([]checkpoint.RangeState{{Range: keyhook.Prefix([]byte("")), Position: keyhook.After(st.revision)}})
		st.m.reading.see(sight{st.revision, st.now.now}, 0)
	case "crash":
		st.open(t)
	case "pause", "resume", "requeue", "discard", "purge", "retention", "letters":
		st.order(t, &out, td)
	case "status":
		st.status(&out)
	default:
		t.Fatalf("%s: no such command: %s", td.Pos, td.Cmd)
	}
	st.ends(&out)
	return out.String()
}

func (st *story) sink(t *testing.T, td *datadriven.TestData) {
	s := Sink{Name: td.CmdArgs[0].Key, Concurrency: 10, Fingerprint: fmt.Sprint(td.CmdArgs), Breaker: Breaker{Off: true}}
	for _, a := range td.CmdArgs[1:] {
		switch a.Key {
		case "concurrency":
			s.Concurrency = number(t, a.Vals[0])
		case "rate":
			s.Rate = float64(number(t, a.Vals[0]))
		case "max_attempts":
			s.Retry.MaxAttempts = number(t, a.Vals[0])
		case "max_age":
			s.Retry.MaxAge = duration(t, a.Vals[0])
		case "max_owed":
			s.MaxOwed = number(t, a.Vals[0])
		case "dead_letter":
			s.DeadLetterTo = a.Vals[0]
		case "breaker":
			s.Breaker.Off = false
			if len(a.Vals) > 0 {
				s.Breaker.Probes = number(t, a.Vals[0])
			}
		default:
			t.Fatalf("%s: no such argument: %s", td.Pos, a.Key)
		}
	}
	s.setDefaults()
	st.cfg.Sinks = append(slices.DeleteFunc(st.cfg.Sinks, func(o Sink) bool { return o.Name == s.Name }), s)
	st.m.configure(s)
}

func (st *story) admit(t *testing.T, input string) {
	b := &Batch{}
	for line := range strings.Lines(input) {
		f := strings.Fields(line)
		d := &keyhook.Delivery{
			Rule: f[0], Send: f[1], Sink: f[1], ID: f[3],
			Event: &keyhook.Event{Type: keyhook.Put, Key: []byte(f[2]), Revision: 1},
		}
		for _, a := range f[4:] {
			name, value, _ := strings.Cut(a, "=")
			switch name {
			case "none":
				d.Order = keyhook.OrderNone
			case "newest":
				d.OnFailure = keyhook.Supersede
			case "size":
				d.Message.Body = make([]byte, number(t, value))
			case "rejected":
				d.Rejected = &keyhook.Rejection{Reason: keyhook.Reason(value), Error: "no message"}
			case "delete":
				d.Event.Type = keyhook.Delete
			case "for":
				d.Timing.For = duration(t, value)
			case "every":
				d.Timing.Every = duration(t, value)
			case "chain":
				d.Chain = []byte(value)
			case "cancels":
				d.Cancels = true
			default:
				t.Fatalf("no such word: %s", a)
			}
		}
		b.Deliveries = append(b.Deliveries, d)
	}
	st.m.admit(st.now, b)
}

func (st *story) answer(t *testing.T, out *strings.Builder, td *datadriven.TestData) {
	id, how := td.CmdArgs[0].Key, td.CmdArgs[1]
	var err error
	switch how.Key {
	case "ok":
	case "fail":
		err = errors.New("503")
	case "503":
		err = &sinks.Error{Reach: sinks.Unavailable, Err: errors.New("503")}
	case "timeout":
		err = &sinks.Error{Reach: sinks.Unanswered, Err: errors.New("timeout")}
	case "refused":
		err = &sinks.Error{Reach: sinks.Unconnected, Err: errors.New("connection refused")}
	case "reject":
		err = &sinks.Error{Kind: sinks.Rejected, Err: errors.New("422")}
	case "hold":
		err = &sinks.Error{Kind: sinks.Hold, Err: errors.New("410")}
	case "cut":
		err = &sinks.Error{Kind: sinks.Interrupted, Err: errors.New("stopped")}
	case "throttle":
		err = &sinks.Error{Kind: sinks.Throttled, RetryAfter: duration(t, how.Vals[0]), Err: errors.New("429")}
	default:
		t.Fatalf("%s: no such answer: %s", td.Pos, how.Key)
	}
	i := slices.IndexFunc(st.inFlight, func(s send) bool { return s.item.d.ID == id })
	if i < 0 {
		t.Fatalf("%s: %s is not in flight", td.Pos, id)
	}
	it := st.inFlight[i].item
	st.inFlight = slices.Delete(st.inFlight, i, i+1)
	outcome := st.m.result(st.now, it, err)
	fmt.Fprintf(out, "%s", outcome)
	if outcome == keyhook.Retried && !it.settled {
		fmt.Fprintf(out, " in %s, attempt %d done", it.retry.Due.Sub(st.now.wall), it.retry.Attempts)
	}
	out.WriteString("\n")
}

func (st *story) cut(out *strings.Builder) {
	st.running = st.m.cut()
	c := st.running
	if c == nil {
		out.WriteString("nothing to say\n")
		return
	}
	var parts []string
	add := func(what string, n int) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add("owed", len(c.Admitted))
	add("retried", len(c.Retried))
	add("settled", len(c.Settled))
	add("dead", len(c.Dead))
	add("dead letters dropped", len(c.DropDead))
	for _, k := range c.Sinks {
		parts = append(parts, fmt.Sprintf("sink %s held=%t paused=%t", k.Name, k.Held, k.Paused))
	}
	fmt.Fprintf(out, "commit %d: %s\n", c.Sequence, strings.Join(parts, ", "))
}

func (st *story) durable(t *testing.T) {
	if st.running == nil {
		return
	}
	if err := st.store.Commit(t.Context(), st.running); err != nil {
		t.Fatal(err)
	}
	st.running = nil
	st.m.committed(st.now)
}

func (st *story) ends(out *strings.Builder) {
	for _, e := range st.m.ends {
		if e.outcome == keyhook.Delivered {
			continue
		}
		id := "a delivery on disk"
		if e.d != nil {
			id = e.d.ID
		}
		fmt.Fprintf(out, "%s: %s", id, e.outcome)
		if e.reason != "" {
			fmt.Fprintf(out, " (%s: %s)", e.reason, e.err)
		}
		out.WriteString("\n")
	}
	st.m.ends = nil
	for _, turn := range st.m.turns {
		fmt.Fprintf(out, "%s: breaker %s → %s\n", turn.sink.name, turn.from, turn.to)
	}
	st.m.turns = nil
	for _, name := range slices.Sorted(maps.Keys(st.m.expired)) {
		fmt.Fprintf(out, "%s: %d dead letters expired\n", name, st.m.expired[name])
	}
	clear(st.m.expired)
}

func (st *story) status(out *strings.Builder) {
	for _, s := range st.m.status() {
		fmt.Fprintf(out, "%s: owed %d, in flight %d, dead letters %d", s.Name, s.Owed, s.InFlight, s.DeadLetters)
		if !s.OldestAdmitted.IsZero() {
			fmt.Fprintf(out, ", oldest %s", st.now.wall.Sub(s.OldestAdmitted))
		}
		if s.Held {
			fmt.Fprintf(out, ", held (%s) for %s", s.Reason, st.now.wall.Sub(s.HeldSince))
		}
		if s.Paused {
			fmt.Fprintf(out, ", paused for %s", st.now.wall.Sub(s.PausedSince))
		}
		if s.Breaker != BreakerClosed {
			fmt.Fprintf(out, ", breaker %s", s.Breaker)
		}
		if s.Waiting > 0 {
			fmt.Fprintf(out, ", waiting %d", s.Waiting)
		}
		if !s.Configured {
			out.WriteString(", not configured")
		}
		cold, warm := 0, 0
		for _, l := range st.m.numbers {
			if l.name.sink == s.Name {
				cold, warm = cold+l.cold.len(), warm+len(l.chains)
			}
		}
		fmt.Fprintf(out, "; chains: %d in memory, %d on disk\n", warm, cold)
	}
	if n := len(st.m.timers.of); n > 0 {
		fmt.Fprintf(out, "timers: %d\n", n)
	}
	if at, ok := st.m.wake(); ok {
		fmt.Fprintf(out, "due next in %s\n", time.Duration(at-st.now.now))
	}
}

func number(t *testing.T, s string) int {
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
