package checkpointtest

import (
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

var deadLetterStories = []story{
	{"dead letters keep their order, their story and their count", func(t *teller) {
		letter := func(number, ordinal uint64, sink string) checkpoint.DeadLetter {
			d := delivery(ordinal)
			d.Sink, d.Retry = sink, keyhook.Retry{Attempts: 3, Interval: time.Second, Error: "400"}
			return checkpoint.DeadLetter{Number: number, DeadLetter: keyhook.DeadLetter{
				Delivery: d, Reason: keyhook.ReasonRejected, Error: "400 Bad Request", FailedAt: noon,
			}}
		}
		want := []checkpoint.DeadLetter{letter(1, 300, "pager"), letter(2, 2, "bus"), letter(256, 1, "pager")}
		c := lane1()
		c.Admitted = []checkpoint.Admission{admission(1, 300)}
		t.commit(c)
		t.commit(checkpoint.Commit{Dead: want[:2], Settled: []checkpoint.Ref{ref(1, 300)}})
		t.commit(checkpoint.Commit{Dead: want[2:]})
		t.everAfter(func() {
			t.same("dead letters", t.dead(0), want)
			t.same("counts", t.load(0).DeadLetters, map[string]int{"pager": 2, "bus": 1})
			t.same("next number", t.load(0).NextDeadLetter, uint64(257))
			t.same("owed", t.owed(0), []checkpoint.Owed(nil))
			for i, want := range want {
				t.same("from its number", collect(t, t.b.DeadLetters(t.Context(), 0, want.Number))[0], want)
				t.same("small record", collect(t, t.b.Dead(t.Context(), 0))[i], want.Dead())
			}
			t.same("from between", collect(t, t.b.DeadLetters(t.Context(), 0, 3)), want[2:])
			t.same("behind the last", collect(t, t.b.DeadLetters(t.Context(), 0, 257)), []checkpoint.DeadLetter(nil))
		})
	}},
	{"a dead letter that is dropped is gone with its count", func(t *teller) {
		letter := func(number uint64, sink string) checkpoint.DeadLetter {
			d := delivery(number)
			d.Sink = sink
			return checkpoint.DeadLetter{Number: number, DeadLetter: keyhook.DeadLetter{Delivery: d, FailedAt: noon}}
		}
		t.commit(checkpoint.Commit{DropDead: []uint64{1, 2}})
		t.commit(checkpoint.Commit{Dead: []checkpoint.DeadLetter{letter(1, "pager"), letter(2, "bus"), letter(3, "pager"), letter(4, "pager")}})
		t.commit(checkpoint.Commit{DropDead: []uint64{3, 2, 3, 99}})
		t.commit(checkpoint.Commit{DropDead: []uint64{3, 6, 6}, Dead: []checkpoint.DeadLetter{letter(5, "bus"), letter(6, "bus")}})
		t.everAfter(func() {
			t.same("dead letters", t.dead(0), []checkpoint.DeadLetter{letter(1, "pager"), letter(4, "pager"), letter(5, "bus")})
			t.same("counts", t.load(0).DeadLetters, map[string]int{"pager": 2, "bus": 1})
			t.same("next number", t.load(0).NextDeadLetter, uint64(7))
		})
		t.commit(checkpoint.Commit{DropDead: []uint64{1, 4, 5}})
		t.everAfter(func() {
			t.same("dead letters", t.dead(0), []checkpoint.DeadLetter(nil))
			t.same("small records", collect(t, t.b.Dead(t.Context(), 0)), []checkpoint.Dead(nil))
			t.same("counts", len(t.load(0).DeadLetters), 0)
			t.same("next number", t.load(0).NextDeadLetter, uint64(7))
		})
	}},
	{"a dead letter becomes owed again in one commit", func(t *teller) {
		c := lane1()
		c.Dead = []checkpoint.DeadLetter{{Number: 4, DeadLetter: keyhook.DeadLetter{Delivery: delivery(1), FailedAt: noon}}}
		t.commit(c)
		t.commit(checkpoint.Commit{DropDead: []uint64{4}, Admitted: []checkpoint.Admission{admission(7, 5)}})
		t.everAfter(func() {
			t.same("dead letters", t.dead(0), []checkpoint.DeadLetter(nil))
			t.same("owed", t.read(7, 0, 1<<20), []string{delivery(5).ID})
		})
	}},
}
