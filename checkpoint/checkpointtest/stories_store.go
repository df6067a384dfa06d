package checkpointtest

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

var storeStories = []story{
	{"a shard that was never written is empty", func(t *teller) {
		t.everAfter(func() {
			t.same("state", t.load(0), &checkpoint.State{})
			t.same("owed", t.owed(0), []checkpoint.Owed(nil))
			t.same("dead", t.dead(0), []checkpoint.DeadLetter(nil))
			t.same("read", t.read(1, 0, 1000), []string(nil))
		})
	}},
	{"a state comes back whole and sorted", func(t *teller) {
		b, a := at(between("b", "c"), 7), at(between("a", "b"), 8)
		a.Position.Admitted = 3
		a.Seed = &checkpoint.Seed{Revision: 7, Cursor: []byte("am"), Emit: true}
		b.Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: []byte("b\x00"), Revision: 6, ValueHash: 1 << 63}
		b.Forgotten, b.Epoch = 99, 2
		b.Repair = &checkpoint.Repair{Reason: keyhook.GapRolledBack, From: 8, At: noon, Revision: 5, Cursor: []byte("bm"), Whole: true, Changed: 4}
		lanes := []checkpoint.Lane{{Number: 2, Rule: "r", Send: "s", Sink: "k"}, {Number: 1, Rule: "failover", Send: "page", Sink: "pager"}}
		sinks := []checkpoint.SinkState{{Name: "pager", Held: true, Reason: "410 Gone", Since: noon}, {Name: "bus", Held: true, Since: noon}}
		t.commit(checkpoint.Commit{
			Term: 3, NextOrdinal: 17, Identity: &checkpoint.Identity{Source: "/etcd/prod", ClusterID: 1 << 63, Epoch: 2},
			Ranges: []checkpoint.RangeState{b, a}, Lanes: lanes, Sinks: sinks,
		})
		want := &checkpoint.State{
			Term: 3, Sequence: 1, NextOrdinal: 17, Source: "/etcd/prod", ClusterID: 1 << 63, Epoch: 2,
			Ranges: []checkpoint.RangeState{a, b},
			Lanes:  []checkpoint.Lane{lanes[1], lanes[0]}, Sinks: []checkpoint.SinkState{sinks[1], sinks[0]},
		}
		t.everAfter(func() { t.same("state", t.load(0), want) })
	}},
	{"what a commit does not mention stays", func(t *teller) {
		first := lane1()
		first.Identity = &checkpoint.Identity{Source: "/etcd/prod", ClusterID: 5, Epoch: 1}
		first.Ranges = []checkpoint.RangeState{at(between("a", "b"), 7), at(between("b", "c"), 7)}
		first.Sinks = []checkpoint.SinkState{{Name: "pager", Held: true, Since: noon}}
		first.Admitted = []checkpoint.Admission{admission(1, 5)}
		t.commit(first)
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{at(between("b", "c"), 9)}})
		t.everAfter(func() {
			s := t.load(0)
			t.same("source", s.Source, "/etcd/prod")
			t.same("ordinal", s.NextOrdinal, uint64(1000))
			t.same("ranges", s.Ranges, []checkpoint.RangeState{at(between("a", "b"), 7), at(between("b", "c"), 9)})
			t.same("lanes", s.Lanes, first.Lanes)
			t.same("sinks", s.Sinks, first.Sinks)
			t.same("owed", t.read(1, 0, 1000), []string{delivery(5).ID})
		})
	}},
	{"a loaded state belongs to its reader", func(t *teller) {
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{at(between("a", "b"), 7)}, Lanes: lane1().Lanes})
		s := t.load(0)
		s.Ranges[0].Range.Start[0], s.Ranges[0].Position.Next, s.Lanes[0].Rule = 'z', 1, "z"
		t.same("range", t.load(0).Ranges[0], at(between("a", "b"), 7))
		t.same("lane", t.load(0).Lanes, lane1().Lanes)
	}},
	{"a commit keeps nothing of what it was given", func(t *teller) {
		r := at(between("a", "b"), 7)
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{r}})
		r.Range.Start[0], r.Range.End[0] = 'z', 'z'
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{at(between("a", "b"), 8)}})
		t.everAfter(func() { t.same("ranges", t.load(0).Ranges, []checkpoint.RangeState{at(between("a", "b"), 8)}) })
	}},
	{"a sequence is done once", func(t *teller) {
		first := lane1()
		t.commit(first)
		second := checkpoint.Commit{Term: 1, Sequence: 2, Admitted: []checkpoint.Admission{admission(1, 5)}}
		t.commit(second)
		t.commit(checkpoint.Commit{Sequence: 3, Settled: []checkpoint.Ref{ref(1, 5)}})
		t.everAfter(func() {
			t.commit(second)
			t.same("owed", t.owed(0), []checkpoint.Owed(nil))
			t.same("sequence", t.load(0).Sequence, uint64(3))
		})
	}},
	{"a gap in the sequence is refused", func(t *teller) {
		t.commit(checkpoint.Commit{})
		for _, sequence := range []uint64{3, 99} {
			t.refused(checkpoint.ErrInvalid, checkpoint.Commit{Sequence: sequence})
		}
		t.everAfter(func() { t.same("sequence", t.load(0).Sequence, uint64(1)) })
	}},
	{"an older term is fenced, whatever its sequence", func(t *teller) {
		t.commit(checkpoint.Commit{Term: 1})
		t.commit(checkpoint.Commit{Term: 5})
		t.everAfter(func() {
			for _, sequence := range []uint64{1, 2, 3} {
				t.refused(checkpoint.ErrFenced, checkpoint.Commit{Term: 4, Sequence: sequence})
			}
			t.same("term", t.load(0).Term, uint64(5))
		})
		t.commit(checkpoint.Commit{Term: 5})
		t.commit(checkpoint.Commit{Term: 6})
	}},
	{"a commit that contradicts itself or the state is refused", func(t *teller) {
		first := lane1()
		first.Ranges = []checkpoint.RangeState{at(between("a", "c"), 7)}
		first.Admitted = []checkpoint.Admission{admission(1, 7)}
		first.Dead = []checkpoint.DeadLetter{{Number: 4, DeadLetter: keyhook.DeadLetter{Delivery: delivery(4)}}}
		t.commit(first)
		nowhere := admission(1, 5)
		nowhere.Lane = 2
		for name, c := range map[string]checkpoint.Commit{
			"ranges that overlap":          {Ranges: []checkpoint.RangeState{at(between("b", "d"), 7)}},
			"a range within another":       {Ranges: []checkpoint.RangeState{at(between("a", "b"), 7)}},
			"a range without an end":       {Ranges: []checkpoint.RangeState{at(between("", ""), 7)}},
			"an empty range":               {Ranges: []checkpoint.RangeState{at(between("x", "x"), 7)}},
			"a lane of another kind":       {Lanes: []checkpoint.Lane{{Number: 1, Rule: "other", Send: "page", Sink: "pager", Timed: true}}},
			"a delivery of no lane":        {Admitted: []checkpoint.Admission{nowhere}},
			"a delivery without a number":  {Admitted: []checkpoint.Admission{admission(1, 0)}},
			"an ordinal that is too high":  {Admitted: []checkpoint.Admission{admission(1, 1000)}},
			"no delivery":                  {Admitted: []checkpoint.Admission{{Lane: 1}}},
			"a retry of what is not owed":  {Retried: []checkpoint.Owed{{Ref: ref(1, 5)}}},
			"a retry of what is dropped":   {DropLanes: []uint32{1}, Retried: []checkpoint.Owed{{Ref: ref(1, 7)}}},
			"a dead letter twice":          {Dead: first.Dead},
			"a dead letter of no delivery": {Dead: []checkpoint.DeadLetter{{Number: 5}}},
		} {
			c.Sequence = 2
			if err := t.try(&c); !errors.Is(err, checkpoint.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		t.everAfter(func() { t.same("sequence", t.load(0).Sequence, uint64(1)) })
	}},
	{"an ordinal never goes back", func(t *teller) {
		t.commit(checkpoint.Commit{NextOrdinal: 50})
		t.commit(checkpoint.Commit{NextOrdinal: 20})
		t.everAfter(func() { t.same("ordinal", t.load(0).NextOrdinal, uint64(50)) })
	}},
	{"a delivery comes back as it was", func(t *teller) {
		c := lane1()
		d := delivery(5)
		d.Order, d.OnFailure = keyhook.OrderNone, keyhook.Supersede
		d.Rejected = &keyhook.Rejection{Reason: keyhook.ReasonRender, Error: "no such key \xff"}
		d.Retry = keyhook.Retry{Attempts: 2, Interval: 3 * time.Second, Due: noon.Add(time.Minute), Error: "503"}
		c.Admitted = []checkpoint.Admission{{Lane: 1, Chain: 8, Delivery: d}}
		t.commit(c)
		t.everAfter(func() {
			ds, err := t.b.Read(t.Context(), 0, 1, 8, 0, 1000)
			if err != nil || len(ds) != 1 {
				t.Fatalf("read: %d deliveries, %v", len(ds), err)
			}
			t.same("delivery", ds[0], d)
			t.same("owed", t.owed(0), []checkpoint.Owed{{Ref: ref(8, 5), Admitted: noon, Retry: d.Retry}})
		})
	}},
	{"owed deliveries go by lane, chain and ordinal", func(t *teller) {
		c := lane1()
		c.Lanes = append(c.Lanes, checkpoint.Lane{Number: 300, Rule: "r", Send: "s", Sink: "k"})
		want := []checkpoint.Ref{
			{Lane: 1, Chain: 2, Ordinal: 9}, {Lane: 1, Chain: 2, Ordinal: 256}, {Lane: 1, Chain: 300, Ordinal: 3},
			{Lane: 1, Chain: 1 << 63, Ordinal: 1}, {Lane: 300, Chain: 1, Ordinal: 2},
		}
		for _, i := range []int{3, 1, 4, 0, 2} {
			d := delivery(want[i].Ordinal)
			c.Admitted = append(c.Admitted, checkpoint.Admission{Lane: want[i].Lane, Chain: want[i].Chain, Delivery: d})
		}
		t.commit(c)
		t.everAfter(func() {
			var got []checkpoint.Ref
			for _, o := range t.owed(0) {
				got = append(got, o.Ref)
			}
			t.same("order", got, want)
		})
	}},
	{"reading gives what fits, and at least one", func(t *teller) {
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(7, 3), admission(7, 1), admission(7, 2), admission(8, 4)}
		t.commit(c)
		id, size := func(n uint64) string { return delivery(n).ID }, delivery(1).Size()
		t.everAfter(func() {
			t.same("all of the chain", t.read(7, 0, 1<<20), []string{id(1), id(2), id(3)})
			t.same("from the second", t.read(7, 2, 1<<20), []string{id(2), id(3)})
			t.same("two that fit", t.read(7, 0, 2*size), []string{id(1), id(2)})
			t.same("almost two", t.read(7, 0, 2*size-1), []string{id(1)})
			t.same("no room", t.read(7, 2, 0), []string{id(2)})
			t.same("behind the last", t.read(7, 4, 1<<20), []string(nil))
			t.same("another chain", t.read(8, 0, 1<<20), []string{id(4)})
			t.same("no such chain", t.read(9, 0, 1<<20), []string(nil))
		})
	}},
	{"a retry changes what is planned, not what is sent", func(t *teller) {
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(1, 1), admission(1, 2)}
		t.commit(c)
		want := delivery(1)
		want.Retry = keyhook.Retry{Attempts: 7, Interval: time.Minute, Due: noon.Add(time.Hour), Error: "timeout \xff"}
		t.commit(checkpoint.Commit{Retried: []checkpoint.Owed{{Ref: ref(1, 1), Admitted: noon, Retry: want.Retry}}})
		t.everAfter(func() {
			ds, err := t.b.Read(t.Context(), 0, 1, 1, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			t.same("deliveries", ds, []*keyhook.Delivery{want, delivery(2)})
			t.same("owed", t.owed(0)[0].Retry, want.Retry)
		})
	}},
	{"a lane that is renamed keeps what it owes, and what waits beside it", func(t *teller) {
		c := lane1()
		c.Lanes = append(c.Lanes, checkpoint.Lane{Number: 2, Rule: "failover", Send: "page", Sink: "pager", Timed: true})
		waits := delivery(2)
		waits.Chain, waits.Timing = []byte("per:batman"), keyhook.Timing{For: time.Minute, Every: time.Hour}
		waits.Group = []*keyhook.Event{waits.Event, delivery(3).Event}
		waits.Retry = keyhook.Retry{Stage: keyhook.Holding, Due: noon.Add(time.Minute)}
		c.Admitted = []checkpoint.Admission{admission(1, 1), {Lane: 2, Chain: 1, Delivery: waits}}
		t.commit(c)
		renamed := []checkpoint.Lane{
			{Number: 1, Rule: "new-leader", Send: "oncall", Sink: "oncall"},
			{Number: 2, Rule: "new-leader", Send: "oncall", Sink: "oncall", Timed: true},
		}
		t.commit(checkpoint.Commit{Lanes: renamed})
		t.everAfter(func() {
			t.same("lanes", t.load(0).Lanes, renamed)
			owed := t.owed(0)
			t.same("owed", len(owed), 2)
			t.same("stage", owed[1].Retry, waits.Retry)
			ds, err := t.b.Read(t.Context(), 0, 2, 1, 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			t.same("deliveries", ds, []*keyhook.Delivery{waits})
		})
	}},
	{"what is owed is found by its place", func(t *teller) {
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(1, 1), admission(1, 2), admission(7, 3)}
		t.commit(c)
		retry := keyhook.Retry{Attempts: 7, Interval: time.Minute, Due: noon.Add(time.Hour), Error: "timeout"}
		t.commit(checkpoint.Commit{Retried: []checkpoint.Owed{{Ref: ref(1, 2), Admitted: noon, Retry: retry}}, Settled: []checkpoint.Ref{ref(1, 1)}})
		t.everAfter(func() {
			found, err := t.b.Find(t.Context(), 0, []checkpoint.Ref{ref(7, 3), ref(1, 1), ref(7, 2), {Lane: 2, Chain: 7, Ordinal: 3}, ref(1, 2)})
			if err != nil {
				t.Fatal(err)
			}
			t.same("found", found, []checkpoint.Owed{{Ref: ref(7, 3), Admitted: noon}, {Ref: ref(1, 2), Admitted: noon, Retry: retry}})
			if found, err = t.b.Find(t.Context(), 1, []checkpoint.Ref{ref(7, 3)}); err != nil || len(found) > 0 {
				t.Fatalf("in another shard: %v, %v", found, err)
			}
		})
	}},
	{"what is settled is gone, even within its commit", func(t *teller) {
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(1, 1), admission(1, 2), admission(1, 3)}
		c.Settled = []checkpoint.Ref{ref(1, 3)}
		t.commit(c)
		t.commit(checkpoint.Commit{Settled: []checkpoint.Ref{ref(1, 1), ref(9, 9)}})
		t.everAfter(func() {
			t.same("read", t.read(1, 0, 1<<20), []string{delivery(2).ID})
			t.same("owed", len(t.owed(0)), 1)
		})
	}},
	{"a lane goes with all that it owes", func(t *teller) {
		c := lane1()
		c.Lanes = append(c.Lanes, checkpoint.Lane{Number: 2, Rule: "r", Send: "s", Sink: "k"})
		other := admission(1, 2)
		other.Lane = 2
		c.Admitted = []checkpoint.Admission{admission(1, 1), other, admission(1<<63, 3)}
		t.commit(c)
		t.commit(checkpoint.Commit{DropLanes: []uint32{1, 77}})
		t.everAfter(func() {
			t.same("lanes", t.load(0).Lanes, c.Lanes[1:])
			t.same("read", t.read(1, 0, 1<<20), []string(nil))
			t.same("owed", t.owed(0), []checkpoint.Owed{{Ref: checkpoint.Ref{Lane: 2, Chain: 1, Ordinal: 2}, Admitted: noon}})
		})
	}},
	{"deliveries are listed in full from a place on", func(t *teller) {
		c := lane1()
		c.Lanes = append(c.Lanes, checkpoint.Lane{Number: 300, Rule: "r", Send: "s", Sink: "k"})
		refs := []checkpoint.Ref{
			{Lane: 1, Chain: 2, Ordinal: 9}, {Lane: 1, Chain: 2, Ordinal: 256}, {Lane: 1, Chain: 300, Ordinal: 3},
			{Lane: 1, Chain: 1<<64 - 1, Ordinal: 1}, {Lane: 300, Chain: 1, Ordinal: 2},
		}
		var want []checkpoint.Admission
		for _, r := range refs {
			want = append(want, checkpoint.Admission{Lane: r.Lane, Chain: r.Chain, Delivery: delivery(r.Ordinal)})
		}
		c.Admitted = []checkpoint.Admission{want[3], want[1], want[4], want[0], want[2]}
		t.commit(c)
		retried := checkpoint.Owed{Ref: refs[1], Admitted: noon, Retry: keyhook.Retry{Attempts: 2, Error: "503"}}
		t.commit(checkpoint.Commit{Retried: []checkpoint.Owed{retried}})
		d := *want[1].Delivery
		d.Retry = retried.Retry
		want[1].Delivery = &d
		t.everAfter(func() {
			for i, r := range refs {
				t.same("from its place", collect(t, t.b.Deliveries(t.Context(), 0, r)), want[i:])
			}
			t.same("from the beginning", collect(t, t.b.Deliveries(t.Context(), 0, checkpoint.Ref{})), want)
			t.same("from between", collect(t, t.b.Deliveries(t.Context(), 0, checkpoint.Ref{Lane: 1, Chain: 3})), want[2:])
			t.same("behind the last", collect(t, t.b.Deliveries(t.Context(), 0, checkpoint.Ref{Lane: 301})), []checkpoint.Admission(nil))
			t.same("another shard", collect(t, t.b.Deliveries(t.Context(), 1, checkpoint.Ref{})), []checkpoint.Admission(nil))
		})
		for a, err := range t.b.Deliveries(t.Context(), 0, checkpoint.Ref{}) {
			if err != nil {
				t.Fatal(err)
			}
			t.commit(checkpoint.Commit{Settled: []checkpoint.Ref{{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal}, refs[2]}})
			if a.Delivery.Ordinal == 256 {
				break
			}
		}
		t.everAfter(func() {
			t.same("after some were settled on the way", collect(t, t.b.Deliveries(t.Context(), 0, checkpoint.Ref{})), want[3:])
		})
	}},
	{"a sink is held and paused, each by itself", func(t *teller) {
		want := []checkpoint.SinkState{
			{Name: "a", Held: true, Reason: "410 Gone", Since: noon, Fingerprint: "f1"},
			{Name: "b", Paused: true, PausedSince: noon},
			{Name: "c", Held: true, Since: noon, Fingerprint: "f1", Paused: true, PausedSince: noon.Add(time.Hour)},
		}
		t.commit(checkpoint.Commit{Sinks: want})
		t.everAfter(func() { t.same("sinks", t.load(0).Sinks, want) })
	}},
	{"a sink with nothing to remember is forgotten", func(t *teller) {
		t.commit(checkpoint.Commit{Sinks: []checkpoint.SinkState{{Name: "a", Held: true}, {Name: "b", Held: true}}})
		t.commit(checkpoint.Commit{Sinks: []checkpoint.SinkState{{Name: "a"}, {Name: "c"}}})
		t.everAfter(func() { t.same("sinks", t.load(0).Sinks, []checkpoint.SinkState{{Name: "b", Held: true}}) })
	}},
	{"shards do not meet", func(t *teller) {
		for _, shard := range []uint32{0, 1, 255, 256, 1<<32 - 1} {
			c := lane1()
			c.Shard, c.Sequence, c.NextOrdinal = shard, 1, uint64(shard)+2
			c.Admitted = []checkpoint.Admission{admission(1, uint64(shard)+1)}
			c.Dead = []checkpoint.DeadLetter{{Number: uint64(shard), DeadLetter: keyhook.DeadLetter{Delivery: delivery(1)}}}
			t.commit(c)
		}
		t.commit(checkpoint.Commit{Shard: 255, Sequence: 2, DropLanes: []uint32{1}})
		t.everAfter(func() {
			for _, shard := range []uint32{0, 1, 256, 1<<32 - 1} {
				t.same("owed", t.owed(shard), []checkpoint.Owed{{Ref: ref(1, uint64(shard)+1), Admitted: noon}})
				t.same("dead", t.dead(shard)[0].Number, uint64(shard))
				t.same("ordinal", t.load(shard).NextOrdinal, uint64(shard)+2)
			}
			t.same("owed", t.owed(255), []checkpoint.Owed(nil))
			t.same("another", t.load(2), &checkpoint.State{})
		})
	}},
	{"an iteration may be left, and commit meanwhile", func(t *teller) {
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(1, 1), admission(1, 2), admission(1, 3)}
		t.commit(c)
		var seen []uint64
		for o, err := range t.b.Owed(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, o.Ordinal)
			t.commit(checkpoint.Commit{Settled: []checkpoint.Ref{o.Ref, ref(1, 3)}})
			if len(seen) == 2 {
				break
			}
		}
		t.same("seen", seen, []uint64{1, 2})
		t.everAfter(func() { t.same("owed", t.owed(0), []checkpoint.Owed(nil)) })
	}},
	{"nothing is done for a context that is over", func(t *teller) {
		ctx := ended(t)
		over := func(err error) {
			t.Helper()
			if err == nil {
				t.Fatal("no error for a context that is over")
			}
		}
		over(t.b.Commit(ctx, &checkpoint.Commit{Term: 1, Sequence: 1}))
		_, err := t.b.Load(ctx, 0)
		over(err)
		_, err = t.b.Read(ctx, 0, 1, 1, 0, 10)
		over(err)
		_, err = t.b.Find(ctx, 0, []checkpoint.Ref{ref(1, 1)})
		over(err)
		for _, err = range t.b.Owed(ctx, 0) {
			over(err)
		}
		for _, err = range t.b.Deliveries(ctx, 0, checkpoint.Ref{}) {
			over(err)
		}
		for _, err = range t.b.Dead(ctx, 0) {
			over(err)
		}
		for _, err = range t.b.DeadLetters(ctx, 0, 0) {
			over(err)
		}
		over(err)
		t.same("sequence", t.load(0).Sequence, uint64(0))
	}},
	{"large deliveries fit", func(t *teller) {
		c := lane1()
		for i := range uint64(4) {
			a := admission(1, i+1)
			a.Delivery.Message.Body = bytes.Repeat([]byte{byte(i)}, 3<<19)
			a.Delivery.Event.Key = bytes.Repeat([]byte{0xff}, 3<<19)
			c.Admitted = append(c.Admitted, a)
		}
		t.commit(c)
		t.everAfter(func() {
			ds, err := t.b.Read(t.Context(), 0, 1, 1, 2, 1)
			if err != nil || len(ds) != 1 {
				t.Fatalf("read: %d deliveries, %v", len(ds), err)
			}
			t.same("body", ds[0].Message.Body, c.Admitted[1].Delivery.Message.Body)
			t.same("all", len(t.read(1, 0, 100<<20)), 4)
		})
	}},
	{"very many deliveries fit", func(t *teller) {
		const chains, each, rounds = many / 100, 10, 10
		for round := range uint64(rounds) {
			c := lane1()
			c.NextOrdinal = chains*each*rounds + 1
			for i := range uint64(chains * each) {
				c.Admitted = append(c.Admitted, admission(i%chains, round*chains*each+i+1))
			}
			t.commit(c)
		}
		t.everAfter(func() {
			n := 0
			for o, err := range t.b.Owed(t.Context(), 0) {
				if err != nil || o.Chain != uint64(n/(each*rounds)) {
					t.Fatalf("delivery %d: %+v, %v", n, o, err)
				}
				n++
			}
			t.same("owed", n, chains*each*rounds)
			t.same("a chain", len(slices.Compact(t.read(chains-1, 0, 10<<20))), each*rounds)
		})
	}},
}

// refused expects c to be refused.
func (t *teller) refused(want error, c checkpoint.Commit) {
	t.Helper()
	if err := t.try(&c); !errors.Is(err, want) {
		t.Fatalf("commit %d of term %d: %v, want %v", c.Sequence, c.Term, err, want)
	}
}
