package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// anyHistory is a history of a few keys, a response a revision.
func anyHistory(t *rapid.T) [][]change {
	type held struct{ create, version int64 }
	keys := make(map[string]held)
	var responses [][]change
	for rev := int64(2); rev < 2+int64(rapid.IntRange(1, 30).Draw(t, "revisions")); rev++ {
		var response []change
		var occ occurrences
		for i := range rapid.IntRange(1, 4).Draw(t, "events") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			h, exists := keys[key]
			kv := &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}
			ev := &mvccpb.Event{Kv: kv}
			if exists && rapid.Bool().Draw(t, "delete") {
				ev.Type = mvccpb.Event_DELETE
				delete(keys, key)
			} else {
				if h.create == 0 {
					h.create = rev
				}
				h.version++
				keys[key] = h
				kv.Value = fmt.Appendf(nil, "%d.%d", rev, i)
				kv.CreateRevision, kv.Version = h.create, h.version
			}
			response = append(response, change{ev: ev, occurrence: occ.next(kv.Key), index: i})
		}
		responses = append(responses, response)
	}
	return responses
}

// model says what each event of a history is to look like.
func model(responses [][]change) []string {
	prev, last := make(map[string]*keyhook.KeyValue), make(map[string]*keyhook.KeyValue)
	var out []string
	for _, r := range responses {
		for _, c := range r {
			ev := eventOf(c, time.Time{})
			k := string(ev.Key)
			ev.Prev, ev.Last = prev[k], last[k]
			if ev.Type == keyhook.Put {
				prev[k] = &keyhook.KeyValue{Value: ev.Value, Revision: ev.Revision, CreateRevision: ev.CreateRevision, Version: ev.Version}
				last[k] = prev[k]
			} else {
				delete(prev, k)
			}
			out = append(out, describe(ev))
		}
	}
	return out
}

// runnerOn returns a runner without an etcd.
func runnerOn(l *ledger, st checkpoint.RangeState, maxEvents int, observer Observer) *runner {
	cfg := Config{Mirror: l.mem, Consumer: l, Observer: observer, BatchEvents: maxEvents, BatchBytes: 1 << 20}
	s := &shared{cfg: cfg, overlay: newOverlay(), seen: &seen{observer: nobody{}}}
	return resumeRunner(s, st)
}

// Read again after a crash at any moment, each change looks the same: what was
// admitted, what was durable and what was neither makes no difference.
func TestWhatAKeyHeldIsTheSameAfterEveryCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := anyHistory(t)
		want := model(history)
		mem := checkpointtest.NewMemory()
		st := checkpoint.RangeState{Range: prefix("a"), Position: keyhook.Position{Next: 2}}
		st.Range.End = nil
		for done := 0; done < len(want); {
			l := newLedger(mem)
			l.manual = true
			observed := new(counts)
			r := runnerOn(l, st, rapid.IntRange(1, 5).Draw(t, "batch"), observed)
			a := &assembler{lookup: r.lookup, maxEvents: r.cfg.BatchEvents, maxBytes: r.cfg.BatchBytes}
			a.reset(r.state)
			rd := &reader{pos: st.Position, anchor: st.Anchor}
			crash := rapid.IntRange(1, 40).Draw(t, "crash")
			for _, response := range history {
				if response[0].ev.GetKv().GetModRevision() < st.Position.Next || crash == 0 {
					continue
				}
				it := rd.take(responseOf(response), time.Time{})
				if err := r.fill(context.Background(), a, &it); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "emit") {
					if err := r.emit(context.Background(), a); err != nil {
						t.Fatal(err)
					}
				}
				if rapid.IntRange(0, 3).Draw(t, "commit") == 0 {
					if err := l.Flush(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				crash--
			}
			if crash > 0 { // the end of history: all is admitted
				if err := errors.Join(r.emit(context.Background(), a), l.Flush(context.Background())); err != nil {
					t.Fatal(err)
				}
				if n := r.overlay.size(); n != 0 {
					t.Fatalf("%d changes are held though all is durable", n)
				}
			}
			for i, e := range l.events {
				if got := describe(e); got != want[done+i] {
					t.Fatalf("change %d is\n%s, not\n%s", done+i, got, want[done+i])
				}
			}
			state, err := mem.Load(context.Background(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(state.Ranges) > 0 {
				st = state.Ranges[0]
			}
			done = 0
			for _, response := range history {
				for _, c := range response {
					rev := c.ev.GetKv().GetModRevision()
					if rev < st.Position.Next || rev == st.Position.Next && c.index < st.Position.Admitted {
						done++
					}
				}
			}
			if n := a.mismatches + observed.mismatches; n != 0 {
				t.Fatalf("%d changes do not follow the mirror", n)
			}
		}
	})
}

func TestTheLastValueIsForgottenByTheOrderOfDeletions(t *testing.T) {
	before := &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: []byte("v"), Revision: 2, Version: 1}}
	forgotten := uint64(100)
	deleted, mismatch := step(&keyhook.Event{Type: keyhook.Delete, Key: []byte("key"), Revision: 3}, before, &forgotten)
	if mismatch || forgotten != 100+3+1+64 || !deleted.Deleted || deleted.Weight != forgotten || string(deleted.Value) != "v" || deleted.Revision != 2 {
		t.Fatalf("%+v, forgotten %d", deleted, forgotten)
	}
	for _, c := range []struct {
		after uint64
		want  string
	}{{0, "v"}, {checkpoint.MaxRemembered - 1, "v"}, {checkpoint.MaxRemembered, ""}} {
		a := &assembler{maxEvents: 1, maxBytes: 1, lookup: func(context.Context, []byte) (*checkpoint.Entry, error) { return deleted, nil }}
		a.reset(checkpoint.RangeState{Forgotten: forgotten + c.after})
		ev := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("key"), ModRevision: 9, CreateRevision: 9, Version: 1}}
		if err := a.add(t.Context(), change{ev: ev}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		got := ""
		if last := a.batch.Events[0].Last; last != nil {
			got = string(last.Value)
		}
		if got != c.want || a.batch.Events[0].Prev != nil {
			t.Errorf("after deletions of %d bytes, the last value is %q", c.after, got)
		}
	}
}

func TestChangesThatDoNotFollowTheMirrorAreNoticed(t *testing.T) {
	held := &checkpoint.Entry{KeyValue: keyhook.KeyValue{CreateRevision: 2, Version: 3}}
	gone := &checkpoint.Entry{KeyValue: held.KeyValue, Deleted: true}
	put := func(create, version int64) *keyhook.Event {
		return &keyhook.Event{Type: keyhook.Put, CreateRevision: create, Version: version}
	}
	for name, c := range map[string]struct {
		ev       *keyhook.Event
		before   *checkpoint.Entry
		mismatch bool
	}{
		"the next version":             {put(2, 4), held, false},
		"a version is missing":         {put(2, 5), held, true},
		"the delete is missing":        {put(9, 1), held, true},
		"created":                      {put(9, 1), nil, false},
		"created again":                {put(9, 1), gone, false},
		"the creation is missing":      {put(9, 2), gone, true},
		"deleted":                      {&keyhook.Event{Type: keyhook.Delete}, held, false},
		"deleted without any creation": {&keyhook.Event{Type: keyhook.Delete}, nil, true},
		"deleted twice":                {&keyhook.Event{Type: keyhook.Delete}, gone, true},
	} {
		if _, mismatch := step(c.ev, c.before, new(uint64)); mismatch != c.mismatch {
			t.Errorf("%s: %v", name, mismatch)
		}
	}
}

func TestABatchMayBeDurableBeforeAdmitReturns(t *testing.T) {
	o := newOverlay()
	entry := func(v string) []*held {
		return []*held{{key: "k", entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: []byte(v)}}}}
	}
	early := &pending{overlay: o, changes: entry("1")}
	early.release()
	early.add()
	if e, ok := o.lookup([]byte("k")); o.size() != 0 || !ok || string(e.Value) != "1" {
		t.Fatal("what is durable is held back, or forgotten at once")
	}
	first, second := &pending{overlay: o, changes: entry("2")}, &pending{overlay: o, changes: entry("3")}
	first.add()
	second.add()
	first.release()
	if e, ok := o.lookup([]byte("k")); !ok || string(e.Value) != "3" {
		t.Fatal("a newer change went with an older one")
	}
	second.release()
	if e, ok := o.lookup([]byte("k")); o.size() != 0 || !ok || string(e.Value) != "3" {
		t.Fatal("what is durable is held back, or an older change stands for it")
	}
	o.forget(prefix("k"))
	if _, ok := o.lookup([]byte("k")); ok {
		t.Fatal("a range that is gone is remembered")
	}
}

func TestRecentEntriesAreBounded(t *testing.T) {
	o := newOverlay()
	value := make([]byte, 1<<20)
	for i := range 50 {
		p := &pending{overlay: o, changes: []*held{
			{key: string(rune('a' + i)), entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: value, Revision: int64(i)}}},
			{key: "often", entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Revision: int64(i)}}},
		}}
		p.add()
		p.release()
		if e, ok := o.lookup([]byte("often")); !ok || e.Revision != int64(i) {
			t.Fatalf("change %d: the overlay holds %+v", i, e)
		}
	}
	if n := len(o.durable); n < 2 || n > recentBytes>>20+1 || n != len(o.entries) {
		t.Fatalf("%d of %d entries are remembered", n, len(o.entries))
	}
	o.forget(keyhook.Range{})
	if len(o.durable) != 0 || len(o.entries) != 0 || o.bytes != 0 {
		t.Fatalf("when all are forgotten, %d entries of %d bytes are left", len(o.entries), o.bytes)
	}
}

func TestAMirrorThatFailsIsAskedAgain(t *testing.T) {
	mem := checkpointtest.NewMemory()
	left := 3
	mem.SetHooks(checkpointtest.Hooks{BeforeRead: func(_ context.Context, method string) error {
		if method != "Lookup" {
			return nil
		}
		if left--; left >= 0 {
			return errors.New("disk on fire")
		}
		return nil
	}})
	f := newFixture(t)
	l := newLedger(mem)
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/k", "1")
	l.wait(t, 1)
	if !strings.Contains(r.logs.String(), "disk on fire") {
		t.Fatal("the failure is not told")
	}
}
