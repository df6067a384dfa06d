package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// clockwork drives a machine with deliveries that wait. What happens in etcd, and
// when keyhook reads it, are two things.
type clockwork struct {
	t     *rapid.T
	store *checkpointtest.Memory
	cfg   Config
	m     *machine
	now   moment

	history  []happening
	read     int // of history, by this process
	crashes  int
	inFlight []send
	loads    []load
	running  *checkpoint.Commit

	taken map[string]int       // how often each id was delivered
	last  map[string]time.Time // (rule, key) → when the last one of another id was admitted
	who   map[string]string    // (rule, key) → its id
	since map[string]int       // (rule, key) → how many crashes there had been
}

// happening is a change in etcd that a rule is about.
type happening struct {
	at      time.Time
	rule    string
	key     string
	cancels bool
}

const span = 10 * time.Second

func (w *clockwork) delivery(i int) *keyhook.Delivery {
	h := w.history[i]
	d := &keyhook.Delivery{
		ID: fmt.Sprint(i), Rule: h.rule, Send: "s", Sink: "s", Cancels: h.cancels,
		Event:   &keyhook.Event{Type: keyhook.Put, Key: []byte(h.key), Revision: int64(i + 1)},
		Message: keyhook.Message{Body: make([]byte, 1000)},
	}
	switch h.rule {
	case "for":
		d.Timing.For = span
	case "every":
		d.Timing.Every = span
	default:
		d.Timing = keyhook.Timing{For: span, Every: 3 * span}
	}
	return d
}

// happen lets something change.
func (w *clockwork) happen() {
	h := happening{
		at: w.now.wall, rule: rapid.SampledFrom([]string{"for", "every", "both"}).Draw(w.t, "rule"),
		key: rapid.SampledFrom([]string{"k1", "k2"}).Draw(w.t, "key"),
	}
	h.cancels = h.rule != "every" && rapid.IntRange(0, 2).Draw(w.t, "cancels") == 0
	w.history = append(w.history, h)
}

// admit reads the next changes.
func (w *clockwork) admit(n int) {
	for range n {
		if w.read == len(w.history) {
			return
		}
		d := w.delivery(w.read)
		w.read++
		b := &Batch{Deliveries: []*keyhook.Delivery{d}, States: []checkpoint.RangeState{{
			Range: keyhook.Prefix([]byte("k")), Position: keyhook.After(int64(w.read)),
		}}}
		w.m.admit(w.now, b)
		w.m.reading.states(b.States)
	}
}

func (w *clockwork) send() {
	w.m.tick(w.now)
	w.loads = append(w.loads, w.m.nextLoads(w.now)...)
	sends, _ := w.m.nextSends(w.now)
	w.inFlight = append(w.inFlight, sends...)
}

// serve lets the sink take what was sent.
func (w *clockwork) serve() {
	for _, s := range w.inFlight {
		w.take(s.item.d)
		w.m.result(w.now, s.item, nil)
	}
	w.inFlight = nil
	w.m.ends = nil
}

// take holds a delivery against what its rule asks for.
func (w *clockwork) take(d *keyhook.Delivery) {
	var i int
	if _, err := fmt.Sscan(d.ID, &i); err != nil {
		w.t.Fatal(err)
	}
	if w.taken[d.ID]++; w.taken[d.ID] > 1+w.crashes {
		w.t.Fatalf("%s was delivered %d times, with %d crashes", d.ID, w.taken[d.ID], w.crashes)
	}
	h := w.history[i]
	name := h.rule + "/" + h.key
	if before := w.who[name]; before != "" && w.taken[d.ID] == 1 {
		var j int
		if _, err := fmt.Sscan(before, &j); err != nil || j > i {
			w.t.Fatalf("%s was delivered behind %s (%v)", d.ID, before, err)
		}
	}
	if again := w.taken[d.ID] > 1; !again || w.who[name] == d.ID {
		// A crash forgets what went out since the last commit, the quiet included.
		quiet := d.Admitted.Sub(w.last[name])
		if !again && quiet < d.Timing.Every && w.since[name] == w.crashes {
			w.t.Fatalf("%s followed %s after %s", d.ID, w.who[name], quiet)
		}
		w.who[name], w.last[name], w.since[name] = d.ID, d.Admitted, w.crashes
	}
	if d.Timing.For == 0 {
		return
	}
	for j := i - 1; j >= 0; j-- {
		if o := w.history[j]; o.rule == h.rule && o.key == h.key {
			if !o.cancels {
				w.t.Fatalf("%s was delivered, and is not the first of its stretch: %d", d.ID, j)
			}
			break
		}
	}
	if end, ok := w.end(i); ok && end.Sub(h.at) < span {
		w.t.Fatalf("%s was delivered, though it was over after %s", d.ID, end.Sub(h.at))
	}
}

// end returns when the stretch that i is in was over.
func (w *clockwork) end(i int) (time.Time, bool) {
	h := w.history[i]
	for _, o := range w.history[i:] {
		if o.rule == h.rule && o.key == h.key && o.cancels {
			return o.at, true
		}
	}
	return time.Time{}, false
}

// look is a sight of etcd as it is.
func (w *clockwork) look() {
	w.m.reading.see(sight{int64(len(w.history)), w.now.now}, w.m.reading.top())
}

func (w *clockwork) load() {
	loads := w.loads
	w.loads = nil
	for _, l := range loads {
		ds, err := w.store.Read(context.Background(), 0, l.number, l.chain, l.from, l.maxBytes)
		if err != nil {
			w.t.Fatal(err)
		}
		more, err := w.m.loaded(w.now, l, ds)
		if err != nil {
			w.t.Fatal(err)
		}
		w.loads = append(w.loads, more...)
	}
}

func (w *clockwork) cut() {
	if w.running == nil {
		w.running = w.m.cut()
	}
}

func (w *clockwork) commit() {
	w.cut()
	if w.running == nil {
		return
	}
	if err := w.store.Commit(context.Background(), w.running); err != nil {
		w.t.Fatal(err)
	}
	w.running = nil
	w.m.committed(w.now)
}

func (w *clockwork) open() {
	w.m = newMachine(&w.cfg)
	w.m.start, w.now.now = w.now.wall, 0
	st, err := w.m.restore(context.Background(), w.now, w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	w.running, w.inFlight, w.loads = nil, nil, nil
	w.read = 0
	if len(st.Ranges) > 0 {
		w.read = int(st.Ranges[0].Position.Revision())
	}
}

func (w *clockwork) pass(d time.Duration) {
	w.now.now += instant(d)
	w.now.wall = w.now.wall.Add(d)
}

// check holds sums against what they sum, and timers against their bound: one for
// each key of a rule.
func (w *clockwork) check() {
	waiting, inMemory := int64(0), int64(0)
	for _, tm := range w.m.timers.of {
		if tm.held != 0 {
			waiting++
		}
		if tm.held == 0 && tm.mark == 0 {
			w.t.Fatalf("the timer of %v is for nothing", tm.place)
		}
		if tm.held != 0 && tm.at < 0 && !tm.overdue && !tm.loading {
			w.t.Fatalf("the delivery %d waits for nothing", tm.held)
		}
	}
	for _, it := range w.m.held {
		inMemory += it.size
	}
	if len(w.m.timers.of) > 6 || inMemory != w.m.heldBytes || inMemory > w.m.budget/heldShare {
		w.t.Fatalf("%d timers, %d bytes in memory, counted %d, budget %d", len(w.m.timers.of), inMemory, w.m.heldBytes, w.m.budget)
	}
	if s := w.m.sinks["s"]; s.timed != waiting {
		w.t.Fatalf("%d wait, counted %d", waiting, s.timed)
	}
}

// settle lets everything come to its end.
func (w *clockwork) settle() {
	for range 40 {
		w.admit(len(w.history))
		w.pass(span)
		w.look()
		for range 5 {
			w.send()
			w.serve()
			w.load()
			w.commit()
		}
	}
}

// checkEnd: what held to the end was told, and the newest of what came too often.
func (w *clockwork) checkEnd() {
	first, newest := map[string]int{}, map[string]int{}
	for i, h := range w.history {
		name := h.rule + "/" + h.key
		newest[name] = i
		if _, open := first[name]; h.cancels {
			delete(first, name)
		} else if !open {
			first[name] = i
		}
	}
	for name, i := range newest {
		if w.history[i].rule != "every" {
			var open bool
			if i, open = first[name]; !open {
				continue
			}
		}
		if w.taken[fmt.Sprint(i)] == 0 {
			w.t.Fatalf("%s: %d was never delivered", name, i)
		}
	}
	markers := 0
	for a, err := range w.store.Deliveries(context.Background(), 0, checkpoint.Ref{}) {
		if err != nil || !a.Delivery.Retry.Stage.Marker() {
			w.t.Fatalf("the store still holds %s (%v)", a.Delivery.ID, err)
		}
		markers++
	}
	if markers > len(first) {
		w.t.Fatalf("%d markers are left, %d conditions hold", markers, len(first))
	}
}

// TestTimingAgainstModel draws what happens in etcd, when it is read, commits,
// crashes and the passing of time.
func TestTimingAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &clockwork{
			t: t, store: checkpointtest.NewMemory(), now: moment{0, time.Unix(1_700_000_000, 0)},
			taken: map[string]int{}, last: map[string]time.Time{}, who: map[string]string{}, since: map[string]int{},
			cfg: Config{
				MemoryBudget: rapid.SampledFrom([]int64{4_000, 20_000, 1 << 30}).Draw(t, "budget"),
				Sinks:        []Sink{{Name: "s", Breaker: Breaker{Off: true}}},
			},
		}
		w.cfg.Store = w.store
		if err := w.cfg.setDefaults(); err != nil {
			t.Fatal(err)
		}
		w.open()
		act := func(f func()) func(*rapid.T) { return func(t *rapid.T) { w.t = t; f() } }
		t.Repeat(map[string]func(*rapid.T){
			"happen":  act(w.happen),
			"happens": act(func() { w.happen(); w.admit(len(w.history)) }),
			"admit":   act(func() { w.admit(rapid.IntRange(1, 5).Draw(w.t, "n")) }),
			"send":    act(w.send),
			"serve":   act(w.serve),
			"look":    act(w.look),
			"load":    act(w.load),
			"cut":     act(w.cut),
			"commit":  act(w.commit),
			"pass":    act(func() { w.pass(time.Duration(rapid.IntRange(1, 12).Draw(w.t, "seconds")) * time.Second) }),
			"crash": act(func() {
				w.crashes++
				if w.running != nil && rapid.Bool().Draw(w.t, "the running commit was done") {
					w.commit()
				}
				w.open()
			}),
			"": act(w.check),
		})
		w.t = t
		w.settle()
		w.check()
		w.checkEnd()
	})
}
