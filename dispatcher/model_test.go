package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/sinks"
)

// world drives a machine as the Dispatcher does, one step at a time, with a
// clock and an order of events that the test draws. Beside it stands a model
// that knows only what was promised.
type world struct {
	t     *rapid.T
	store *checkpointtest.Memory
	cfg   Config
	m     *machine
	now   moment

	inFlight []send
	loads    []load
	running  *checkpoint.Commit

	history   []change         // what etcd holds: the batches in order
	admitted  int              // of history, by this process
	succeeded map[string]bool  // ids
	dead      map[string]bool  // ids
	gone      map[string]bool  // ids superseded, as reported
	firsts    map[string][]int // (rule, key) → index in history of first successes
	orders                     // what somebody has asked for
}

// change is one batch of one delivery.
type change struct {
	id, rule, sink, key string
	order               keyhook.Order
	onFailure           keyhook.OnFailure
	size                int
}

func (c change) delivery() *keyhook.Delivery {
	return &keyhook.Delivery{
		ID: c.id, Rule: c.rule, Send: c.sink, Sink: c.sink, Order: c.order, OnFailure: c.onFailure,
		Event:   &keyhook.Event{Type: keyhook.Put, Key: []byte(c.key), Revision: 1},
		Message: keyhook.Message{Body: make([]byte, c.size)},
	}
}

var policies = map[string]change{
	"ordered":   {rule: "ordered"},
	"unordered": {rule: "unordered", order: keyhook.OrderNone},
	"newest":    {rule: "newest", onFailure: keyhook.Supersede},
}

func (w *world) admit(n int) {
	for range n {
		if w.admitted == len(w.history) {
			c := policies[rapid.SampledFrom([]string{"ordered", "unordered", "newest"}).Draw(w.t, "rule")]
			c.sink = rapid.SampledFrom([]string{"a", "b"}).Draw(w.t, "sink")
			c.key = rapid.SampledFrom([]string{"k1", "k2", "k3", "k4", "k5"}).Draw(w.t, "key")
			c.size = rapid.SampledFrom([]int{10, 500, 3000}).Draw(w.t, "size")
			c.id = fmt.Sprint(len(w.history))
			w.history = append(w.history, c)
		}
		d := w.history[w.admitted].delivery()
		if rapid.IntRange(0, 9).Draw(w.t, "rejected") == 9 { // by rules that may have changed since it came first
			d.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonRender, Error: "no message"}
		}
		w.m.admit(w.now, &Batch{
			Deliveries: []*keyhook.Delivery{d},
			States: []checkpoint.RangeState{{
				Range: keyhook.Prefix([]byte("k")), Position: keyhook.After(int64(w.admitted + 1)),
			}},
		})
		w.admitted++
	}
	w.takeEnds()
}

func (w *world) send() {
	w.m.tick(w.now)
	w.loads = append(w.loads, w.m.nextLoads(w.now)...)
	sends, _ := w.m.nextSends(w.now)
	for _, s := range sends {
		for _, other := range w.inFlight {
			if s.item.lane == other.item.lane && s.item.chain == other.item.chain {
				w.t.Fatalf("%s and %s of one chain are in flight together", s.item.d.ID, other.item.d.ID)
			}
		}
		w.inFlight = append(w.inFlight, s)
	}
}

func (w *world) answer(i int, err error) {
	s := w.inFlight[i]
	w.inFlight = slices.Delete(w.inFlight, i, i+1)
	outcome := w.m.result(w.now, s.item, err)
	if outcome == keyhook.Delivered {
		w.success(s.item.d)
	}
	w.takeEnds()
}

func (w *world) takeEnds() {
	for _, e := range w.m.ends {
		switch e.outcome {
		case keyhook.Dead:
			w.dead[e.d.ID] = true
		case keyhook.Superseded:
			w.gone[e.d.ID] = true
		case keyhook.Delivered, keyhook.Retried, keyhook.Held, keyhook.Interrupted, keyhook.Purged:
		}
	}
	w.m.ends, w.m.turns = nil, nil
}

// success holds a delivery against the promise of order.
func (w *world) success(d *keyhook.Delivery) {
	if w.checkOrders(d) {
		return
	}
	var at int
	if _, err := fmt.Sscan(d.ID, &at); err != nil {
		w.t.Fatal(err)
	}
	if w.succeeded[d.ID] {
		return // a repeat after a crash
	}
	w.succeeded[d.ID] = true
	if d.Order == keyhook.OrderNone {
		return
	}
	w.dead[d.ID] = false // given up, but a crash brought it back
	name := d.Rule + "/" + d.Sink + "/" + string(d.Event.Key)
	for before := range at {
		c := w.history[before]
		if c.rule+"/"+c.sink+"/"+c.key == name && !w.succeeded[c.id] && !w.dead[c.id] && !w.purged[c.id] && d.OnFailure == keyhook.Block {
			w.t.Fatalf("%s was delivered before %s of the same key", d.ID, c.id)
		}
	}
	w.firsts[name] = append(w.firsts[name], at)
	if !slices.IsSorted(w.firsts[name]) {
		w.t.Fatalf("first successes of %s out of order: %v", name, w.firsts[name])
	}
}

func (w *world) finishLoad(i int) {
	l := w.loads[i]
	w.loads = slices.Delete(w.loads, i, i+1)
	ds, err := w.store.Read(context.Background(), 0, l.number, l.chain, l.from, l.maxBytes)
	if err != nil {
		w.t.Fatal(err)
	}
	more, err := w.m.loaded(w.now, l, ds)
	if err != nil {
		w.t.Fatal(err)
	}
	w.loads = append(w.loads, more...)
	w.takeEnds()
}

func (w *world) beginCommit() {
	if w.running == nil {
		w.running = w.m.cut()
	}
}

func (w *world) endCommit() {
	if w.running == nil {
		return
	}
	w.commit()
	w.running = nil
	w.m.committed(w.now)
}

func (w *world) commit() {
	if err := w.store.Commit(context.Background(), w.running); err != nil {
		w.t.Fatal(err)
	}
	for _, a := range w.running.Admitted {
		w.durable[a.Delivery.ID] = true
	}
}

// crash forgets everything but the store. A commit that was running may have
// become durable, or not.
func (w *world) crash() {
	if w.running != nil && rapid.Bool().Draw(w.t, "the running commit was done") {
		w.commit()
	}
	w.running, w.inFlight, w.loads, w.asked = nil, nil, nil, nil
	w.open()
}

func (w *world) open() {
	w.m = newMachine(&w.cfg)
	w.m.start = w.now.wall
	w.now.now = 0
	st, err := w.m.restore(context.Background(), w.now, w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	w.admitted = 0
	if len(st.Ranges) > 0 {
		w.admitted = int(st.Ranges[0].Position.Revision())
	}
}

func (w *world) pass(d time.Duration) {
	w.now.now += instant(d)
	w.now.wall = w.now.wall.Add(d)
}

// drain lets everything succeed.
func (w *world) drain() {
	w.admit(len(w.history) - w.admitted)
	for range 10_000 {
		w.resumeAll()
		w.send()
		for len(w.inFlight) > 0 {
			w.answer(0, nil)
		}
		for len(w.loads) > 0 {
			w.finishLoad(0)
		}
		w.beginCommit()
		w.endCommit()
		w.pass(time.Minute)
		if w.owed() == 0 && w.m.pend.empty() {
			return
		}
	}
	w.t.Fatalf("still owed: %d", w.owed())
}

func (w *world) owed() (n int64) {
	for _, s := range w.m.order {
		n += s.owed
	}
	return n
}

// TestMachineAgainstModel draws histories, outcomes, commits, crashes and
// delays, and holds the machine to what the package promises.
func TestMachineAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, store: checkpointtest.NewMemory(),
			cfg: Config{
				MemoryBudget: rapid.SampledFrom([]int64{4_000, 20_000, 1 << 30}).Draw(t, "budget"),
				Rand:         func() float64 { return 0.5 },
				Sinks: []Sink{
					{Name: "a", Concurrency: 2, Retry: Retry{MaxAttempts: 4}, Breaker: Breaker{Failures: 2, Probes: 2}},
					{Name: "b", Concurrency: 3, Breaker: Breaker{Off: true}},
				},
				Story: tell,
			},
			now:       moment{0, time.Unix(1_700_000_000, 0)},
			succeeded: map[string]bool{}, dead: map[string]bool{}, gone: map[string]bool{}, firsts: map[string][]int{},
			orders: newOrders(),
		}
		w.cfg.Store = w.store
		w.cfg.breakers = func(cfg Breaker) breaker { return &clocked{cfg: cfg, open: cfg.Open, now: &w.now} }
		w.cfg.Retention.MaxNumber = rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "letters kept")
		w.cfg.Sinks[1].MaxOwed = rapid.SampledFrom([]int{0, 0, 5}).Draw(t, "owed to b at most")
		w.cfg.Sinks[0].DeadLetterTo = rapid.SampledFrom([]string{"", "b"}).Draw(t, "who is told of dead letters")
		if err := w.cfg.setDefaults(); err != nil {
			t.Fatal(err)
		}
		w.open()
		failures := []error{
			nil, nil, nil,
			errors.New("500"),
			&sinks.Error{Reach: sinks.Unconnected, Err: errors.New("connection refused")},
			&sinks.Error{Kind: sinks.Hold, Err: errors.New("410")},
			&sinks.Error{Kind: sinks.Throttled, RetryAfter: 90 * time.Second, Err: errors.New("429")},
			&sinks.Error{Kind: sinks.Interrupted, Err: errors.New("cut off")},
			&sinks.Error{Kind: sinks.Rejected, Err: errors.New("422")},
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) { w.t = t; w.admit(rapid.IntRange(1, 12).Draw(t, "n")) },
			"send":  func(t *rapid.T) { w.t = t; w.send() },
			"serve": func(t *rapid.T) { // everything that can go goes
				w.t = t
				for range 10 {
					if w.send(); len(w.inFlight) == 0 {
						return
					}
					for len(w.inFlight) > 0 {
						w.answer(0, nil)
					}
				}
			},
			"answer": func(t *rapid.T) {
				w.t = t
				if len(w.inFlight) > 0 {
					w.answer(rapid.IntRange(0, len(w.inFlight)-1).Draw(t, "which"), rapid.SampledFrom(failures).Draw(t, "how"))
				}
			},
			"load": func(t *rapid.T) {
				w.t = t
				if len(w.loads) > 0 {
					w.finishLoad(rapid.IntRange(0, len(w.loads)-1).Draw(t, "which"))
				}
			},
			"cut":    func(t *rapid.T) { w.t = t; w.beginCommit() },
			"commit": func(t *rapid.T) { w.t = t; w.beginCommit(); w.endCommit() },
			"wait": func(t *rapid.T) {
				w.t = t
				w.pass(time.Duration(rapid.IntRange(1, 120).Draw(t, "seconds")) * time.Second)
			},
			"crash": func(t *rapid.T) { w.t = t; w.crash() },
			"pause": func(t *rapid.T) {
				w.t = t
				w.m.pause(w.now.wall, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sink"))
			},
			"resume": func(t *rapid.T) {
				w.t = t
				w.m.resume(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "sink"))
			},
			"requeue": func(t *rapid.T) { w.t = t; w.requeue() },
			"discard": func(t *rapid.T) { w.t = t; w.discard() },
			"ask":     func(t *rapid.T) { w.t = t; w.ask() },
			"purge":   func(t *rapid.T) { w.t = t; w.purge() },
			"": func(t *rapid.T) {
				w.t = t
				w.checkAccounts()
			},
		})
		w.t = t
		w.drain()
		w.checkEnd()
	})
}

// checkAccounts holds every running sum against what it sums.
func (w *world) checkAccounts() {
	var total int64
	for _, s := range w.m.order {
		var bytes, owed int64
		for _, l := range w.m.numbers {
			if l.sink != s {
				continue
			}
			for _, c := range l.chains {
				owed += int64(c.cold)
				for it := c.head; it != nil; it = it.next {
					owed++
					bytes += it.size
				}
			}
			for _, slot := range l.cold.slots {
				owed += int64(l.cold.slab[slot].count)
			}
		}
		if bytes != s.bytes || owed != s.owed {
			w.t.Fatalf("sink %s: counts %d bytes and %d owed, holds %d and %d", s.name, s.bytes, s.owed, bytes, owed)
		}
		var aged int64
		for _, a := range s.ages.seconds {
			aged += a.count
		}
		if aged != s.owed {
			w.t.Fatalf("sink %s: %d ages for %d owed", s.name, aged, s.owed)
		}
		total += bytes
	}
	w.checkLetters()
	if total != w.m.total {
		w.t.Fatalf("total %d, holds %d", w.m.total, total)
	}
	// What may exceed the budget: the last delivery of each sink, what is being
	// loaded, and what a collapse reads through.
	if slack := int64(100_000); total > w.cfg.MemoryBudget+slack {
		w.t.Fatalf("%d bytes in memory with a budget of %d", total, w.cfg.MemoryBudget)
	}
}

func (w *world) checkEnd() {
	newest := make(map[string]string)
	for _, c := range w.history {
		if c.onFailure == keyhook.Supersede {
			newest[c.rule+c.sink+c.key] = c.id
		}
	}
	kept := w.kept()
	for _, c := range w.history {
		ended := w.succeeded[c.id] || w.purged[c.id] || w.dead[c.id] && (kept[c.id] || w.discarded[c.id] || w.cfg.Retention.MaxNumber > 0)
		superseded := c.onFailure == keyhook.Supersede && w.gone[c.id] && newest[c.rule+c.sink+c.key] != c.id
		if !ended && !superseded {
			w.t.Fatalf("change %s (%s, key %s) was lost", c.id, c.rule, c.key)
		}
	}
	for o, err := range w.store.Owed(context.Background(), 0) {
		w.t.Fatalf("the store still owes %v (%v)", o, err)
	}
	w.checkAccounts()
}
