package backlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
	"keyhook/internal/backlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a store with what is given, a dispatcher that delivers nothing, and
// the backlog of both.
type world struct {
	t *testing.T
	*backlog.Backlog
	store      *checkpointtest.Memory
	dispatcher *dispatcher.Dispatcher
}

// delivery returns one of the rule, with the key /rule/n, of revision n.
func delivery(rule, sink string, n int) *keyhook.Delivery {
	return &keyhook.Delivery{
		ID: fmt.Sprintf("%d-%s", n, rule), Rule: rule, Send: "s", Sink: sink, Admitted: noon,
		Event:   &keyhook.Event{Type: keyhook.Put, Key: fmt.Appendf(nil, "/%s/%d", rule, n), Value: []byte("v"), Revision: int64(n), Time: noon},
		Message: keyhook.Message{ContentType: "text/plain", Body: fmt.Appendf(nil, "message %d", n)},
	}
}

// dead returns dead letters of the rule r, in minutes after noon.
func dead(n int, change func(int, *keyhook.DeadLetter)) []checkpoint.DeadLetter {
	all := make([]checkpoint.DeadLetter, n)
	for i := range all {
		all[i] = checkpoint.DeadLetter{Number: uint64(i + 1), DeadLetter: keyhook.DeadLetter{
			Delivery: delivery("r", "hook", i+1), Reason: keyhook.ReasonRejected, Error: "HTTP 400", FailedAt: noon.Add(time.Duration(i) * time.Minute),
		}}
		if change != nil {
			change(i+1, &all[i].DeadLetter)
		}
	}
	return all
}

// newWorld makes letters dead and owed to be owed, by the rule r to the sink
// hook, each of a key of its own.
func newWorld(t *testing.T, letters []checkpoint.DeadLetter, owed int, change func(*backlog.Config)) *world {
	t.Helper()
	w := &world{t: t, store: checkpointtest.NewMemory()}
	first := uint64(len(letters) + 1)
	c := &checkpoint.Commit{
		Term: 1, Sequence: 1, NextOrdinal: first + uint64(owed), Dead: letters,
		Lanes: []checkpoint.Lane{{Number: 1, Rule: "r", Send: "s", Sink: "hook"}},
	}
	for i := range owed {
		d := delivery("r", "hook", i+1)
		d.Ordinal = first + uint64(i)
		c.Admitted = append(c.Admitted, checkpoint.Admission{Lane: 1, Chain: uint64(i), Delivery: d})
	}
	if err := w.store.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.Open(t.Context(), dispatcher.Config{Store: w.store, CommitInterval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w.dispatcher = d
	cfg := backlog.Config{Store: w.store, Dispatcher: d}
	if change != nil {
		change(&cfg)
	}
	if w.Backlog, err = backlog.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// letters returns the ids of the dead letters that f means, in order.
func (w *world) letters(f backlog.Filter) string {
	w.t.Helper()
	var ids []string
	for l, err := range w.DeadLetters(w.t.Context(), f) {
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, l.ID)
	}
	return strings.Join(ids, " ")
}

// owed returns the ids of what is owed, sorted.
func (w *world) owed() string {
	w.t.Helper()
	var ids []string
	for o, err := range w.Owed(w.t.Context(), backlog.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, o.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// run does all steps of a job.
func run(t *testing.T, do func(context.Context, backlog.Job) (*backlog.Step, error), j backlog.Job) (all backlog.Step, steps int) {
	t.Helper()
	for {
		s, err := do(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		steps++
		all.Seen += s.Seen
		all.Matched += s.Matched
		all.Done += s.Done
		all.Found = append(all.Found, s.Found...)
		all.Failed = append(all.Failed, s.Failed...)
		all.Groups = append(all.Groups, s.Groups...)
		if j.Cursor = s.Cursor; s.Cursor == "" {
			return all, steps
		}
	}
}

func selectAll() backlog.Selection { return backlog.Selection{All: true} }

func TestALetterTellsItsStory(t *testing.T) {
	w := newWorld(t, dead(2, func(n int, l *keyhook.DeadLetter) {
		if n == 2 {
			l.Delivery.Event.Key, l.Delivery.Event.Value = []byte("\xff\x00"), []byte{0xfe}
			l.Delivery.Event.Lease = 0x694d
			l.Delivery.Event.Prev = &keyhook.KeyValue{Value: []byte("old"), Revision: 1}
			l.Delivery.Event.Last = l.Delivery.Event.Prev
			l.Delivery.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonRender}
			l.Reason, l.Delivery.Retry.Attempts = keyhook.ReasonRender, 0
		}
	}), 0, nil)
	s, err := w.DeadLetter(t.Context(), "1-r")
	if err != nil {
		t.Fatal(err)
	}
	if s.Key != "/r/1" || s.Event.Key != "/r/1" || *s.Event.Value != "v" || s.Event.Type != "PUT" || s.Event.Prev != nil ||
		*s.Message.Body != "message 1" || s.Message.ContentType != "text/plain" || s.Reason != "rejected" || !s.FailedAt.Equal(noon) {
		t.Errorf("got %+v", s)
	}
	if s, err = w.DeadLetter(t.Context(), "2-r"); err != nil {
		t.Fatal(err)
	}
	if s.Key != "" || string(s.KeyBase64) != "\xff\x00" || s.Event.Value != nil || string(s.Event.ValueBase64) != "\xfe" || s.Event.Lease != "694d" ||
		*s.Event.Prev.Value != "old" || s.Event.Last != nil || s.Message != nil {
		t.Errorf("got %+v", s)
	}
	if _, err := w.DeadLetter(t.Context(), "3-r"); !errors.Is(err, backlog.ErrUnknownID) {
		t.Errorf("got %v", err)
	}
}

func TestListsComeInPages(t *testing.T) {
	const many = 9000 // more than two pages
	w := newWorld(t, dead(many, nil), many, nil)
	if got := len(strings.Fields(w.letters(backlog.Filter{}))); got != many {
		t.Errorf("%d dead letters", got)
	}
	if got := len(strings.Fields(w.owed())); got != many {
		t.Errorf("%d owed", got)
	}
	if got := w.letters(backlog.Filter{MinRevision: 8230, Until: noon.Add(8232 * time.Minute)}); got != "8230-r 8231-r 8232-r" {
		t.Errorf("got %q", got)
	}
	for _, err := range w.DeadLetters(t.Context(), backlog.Filter{}) {
		if err != nil {
			t.Error(err)
		}
		break // nothing is left open
	}
	for _, err := range w.DeadLetters(t.Context(), backlog.Filter{MinRevision: 2, MaxRevision: 1}) {
		var invalid *backlog.InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("got %v", err)
		}
	}
}

func TestReplayMakesLettersOwedAgain(t *testing.T) {
	w := newWorld(t, dead(5, nil), 0, nil)
	got, _ := run(t, w.Replay, backlog.Job{Selection: backlog.Selection{IDs: []string{"4-r", "9-r", "2-r"}}})
	if got.Matched != 2 || got.Done != 2 || fmt.Sprint(got.Found) != "[2-r 4-r]" || len(got.Failed) != 0 {
		t.Errorf("got %+v", got)
	}
	if l, o := w.letters(backlog.Filter{}), w.owed(); l != "1-r 3-r 5-r" || o != "2-r 4-r" {
		t.Errorf("dead %q, owed %q", l, o)
	}
	// What was rendered goes out as it was.
	for a, err := range w.store.Deliveries(t.Context(), 0, checkpoint.Ref{}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := "message " + strings.TrimSuffix(a.Delivery.ID, "-r"); string(a.Delivery.Message.Body) != want || a.Delivery.Retry.Attempts != 0 {
			t.Errorf("%s: %+v", a.Delivery.ID, a.Delivery)
		}
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	w := newWorld(t, dead(3, nil), 3, nil)
	for _, do := range []func(context.Context, backlog.Job) (*backlog.Step, error){w.Replay, w.PurgeDeadLetters, w.PurgeOwed} {
		got, _ := run(t, do, backlog.Job{Selection: selectAll(), DryRun: true})
		if got.Matched != 3 || got.Done != 3 || len(got.Groups) != 1 || got.Groups[0].Count != 3 {
			t.Errorf("got %+v", got)
		}
	}
	if l, o := w.letters(backlog.Filter{}), w.owed(); l != "1-r 2-r 3-r" || o != l {
		t.Errorf("dead %q, owed %q", l, o)
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t, dead(4, nil), 4, nil)
	got, _ := run(t, w.PurgeDeadLetters, backlog.Job{Selection: backlog.Selection{Filter: backlog.Filter{MaxRevision: 3}}})
	if got.Matched != 3 || got.Done != 3 || w.letters(backlog.Filter{}) != "4-r" {
		t.Errorf("got %+v, %q are left", got, w.letters(backlog.Filter{}))
	}
	got, _ = run(t, w.PurgeOwed, backlog.Job{Selection: backlog.Selection{Filter: backlog.Filter{KeyPrefix: "/r/1"}}})
	if got.Matched != 1 || got.Done != 1 || w.owed() != "2-r 3-r 4-r" {
		t.Errorf("got %+v, %q are left", got, w.owed())
	}
	sinks, err := w.Sinks(t.Context())
	if err != nil || len(sinks) != 1 || sinks[0].Owed != 3 || sinks[0].DeadLetters != 1 || sinks[0].Configured != nil {
		t.Errorf("%v: %+v", err, sinks)
	}
}

// A job ends where there was an end when it began: what dies again
// meanwhile is not part of it.
func TestAJobHasAnEnd(t *testing.T) {
	w := newWorld(t, dead(6, nil), 0, nil)
	j := backlog.Job{Selection: selectAll(), Max: 2}
	first, err := w.PurgeDeadLetters(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if first.Done != 2 || first.Total != 6 || first.Cursor == "" {
		t.Fatalf("got %+v", first)
	}
	again := delivery("r", "hook", 6)
	again.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonRender, Error: "still"}
	if n, err := w.dispatcher.Requeue(t.Context(), []dispatcher.Requeue{{Number: 6, Delivery: again}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	j.Cursor = first.Cursor
	rest, steps := run(t, w.PurgeDeadLetters, j)
	if rest.Done != 3 || steps != 2 || w.letters(backlog.Filter{}) != "6-r" {
		t.Errorf("%d steps, %+v; left %q", steps, rest, w.letters(backlog.Filter{}))
	}
}

func TestLettersWithoutAMessageAreRenderedInAnyCase(t *testing.T) {
	letters := dead(4, func(n int, l *keyhook.DeadLetter) {
		if n > 2 {
			l.Reason = keyhook.ReasonRender
			l.Delivery.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonRender, Error: "no such key"}
			l.Delivery.Message = keyhook.Message{}
		}
	})
	asked := 0
	render := func(d *keyhook.Delivery) (*keyhook.Delivery, error) {
		if strings.HasSuffix(string(d.Event.Key), "4") {
			return nil, errors.New("no such key: still")
		}
		again := *d
		again.Rejected, again.Message = nil, keyhook.Message{Body: []byte("again " + d.ID)}
		return &again, nil
	}
	w := newWorld(t, letters, 0, func(c *backlog.Config) {
		c.Renderer = func() (backlog.Renderer, error) {
			asked++
			return render, nil
		}
	})
	got, _ := run(t, w.Replay, backlog.Job{Selection: selectAll()})
	if got.Matched != 4 || got.Done != 3 || len(got.Failed) != 1 || got.Failed[0] != (backlog.Failure{ID: "4-r", Error: "no such key: still"}) {
		t.Errorf("got %+v", got)
	}
	bodies := map[string]string{}
	for a, err := range w.store.Deliveries(t.Context(), 0, checkpoint.Ref{}) {
		if err != nil {
			t.Fatal(err)
		}
		bodies[a.Delivery.ID] = string(a.Delivery.Message.Body)
	}
	if fmt.Sprint(bodies) != "map[1-r:message 1 2-r:message 2 3-r:again 3-r]" || asked != 1 {
		t.Errorf("owed %v, rules asked for %d times", bodies, asked)
	}
	if l := w.letters(backlog.Filter{}); l != "4-r" {
		t.Errorf("dead %q", l)
	}
}

func TestRenderMakesEveryMessageAnew(t *testing.T) {
	w := newWorld(t, dead(2, nil), 0, func(c *backlog.Config) {
		c.Renderer = func() (backlog.Renderer, error) {
			return func(d *keyhook.Delivery) (*keyhook.Delivery, error) {
				again := *d
				again.Sink = "other"
				return &again, nil
			}, nil
		}
	})
	if got, _ := run(t, w.Replay, backlog.Job{Selection: selectAll(), Render: true}); got.Done != 2 {
		t.Errorf("got %+v", got)
	}
	sinks, err := w.Sinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sinks {
		if want := map[string]int64{"other": 2}[s.Name]; s.Owed != want || s.DeadLetters != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// Where nothing can be rendered at all, nothing is done and the reason told.
func TestRulesThatCannotBeLoadedStopAReplay(t *testing.T) {
	broken := errors.New("rules/a.yaml:1:1: oops")
	w := newWorld(t, dead(2, nil), 0, func(c *backlog.Config) {
		c.Renderer = func() (backlog.Renderer, error) { return nil, broken }
	})
	if _, err := w.Replay(t.Context(), backlog.Job{Selection: selectAll(), Render: true}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if l := w.letters(backlog.Filter{}); l != "1-r 2-r" {
		t.Errorf("dead %q", l)
	}
	if got, _ := run(t, w.Replay, backlog.Job{Selection: selectAll()}); got.Done != 2 {
		t.Errorf("without --render: %+v", got)
	}
}

// Something that no rule file defines any more would be owed for ever.
func TestALetterOfASinkThatIsGoneStays(t *testing.T) {
	w := newWorld(t, dead(1, nil), 0, func(c *backlog.Config) { c.Live = true })
	got, _ := run(t, w.Replay, backlog.Job{Selection: selectAll()})
	if got.Done != 0 || len(got.Failed) != 1 || !strings.Contains(got.Failed[0].Error, `no rule file defines the sink "hook"`) {
		t.Errorf("got %+v", got)
	}
}

func TestStepsAreBounded(t *testing.T) {
	w := newWorld(t, dead(1203, nil), 0, nil)
	got, steps := run(t, w.Replay, backlog.Job{Selection: selectAll()})
	if got.Done != 1203 || steps != 3 {
		t.Errorf("%d steps: %+v", steps, got)
	}
	large := newWorld(t, dead(3, func(_ int, l *keyhook.DeadLetter) { l.Delivery.Message.Body = make([]byte, 5<<20) }), 0, nil)
	if got, steps := run(t, large.Replay, backlog.Job{Selection: selectAll()}); got.Done != 3 || steps != 3 {
		t.Errorf("%d steps of large ones: %+v", steps, got)
	}
}

func TestJobsThatMakeNoSense(t *testing.T) {
	w := newWorld(t, dead(1, nil), 1, nil)
	for name, j := range map[string]backlog.Job{
		"nothing":         {},
		"a negative max":  {Selection: selectAll(), Max: -1},
		"another cursor":  {Selection: selectAll(), Cursor: "x"},
		"ids and filters": {Selection: backlog.Selection{IDs: []string{"a"}, Filter: backlog.Filter{Rules: []string{"r"}}}},
	} {
		for _, do := range []func(context.Context, backlog.Job) (*backlog.Step, error){w.Replay, w.PurgeDeadLetters, w.PurgeOwed} {
			var invalid *backlog.InvalidError
			if _, err := do(t.Context(), j); !errors.As(err, &invalid) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	w := newWorld(t, nil, 1, nil)
	for _, want := range []bool{true, false} {
		do := w.Pause
		if !want {
			do = w.Resume
		}
		if err := do(t.Context(), "hook"); err != nil {
			t.Fatal(err)
		}
		sinks, err := w.Sinks(t.Context())
		if err != nil || sinks[0].Paused != want || (sinks[0].PausedSince != nil) != want {
			t.Errorf("%v: %+v", err, sinks)
		}
	}
	if err := w.Pause(t.Context(), "hok"); !errors.Is(err, backlog.ErrUnknownSink) {
		t.Errorf("got %v", err)
	}
}
