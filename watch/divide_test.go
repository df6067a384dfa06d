package watch

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// batches is a consumer that keeps what it was given, batch by batch.
type batches struct {
	*ledger
	all [][]*keyhook.Event
}

func (b *batches) Admit(ctx context.Context, batch *Batch) error {
	b.all = append(b.all, batch.Events)
	return b.ledger.Admit(ctx, batch)
}

// What the rules take together comes together: a revision is divided between
// batches only where a part of it is a batch by itself.
func TestSmallRevisionsAreNotDivided(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := anyHistory(t)
		most := rapid.IntRange(1, 5).Draw(t, "batch")
		b := &batches{ledger: newLedger(checkpointtest.NewMemory())}
		st := checkpoint.RangeState{Range: keyhook.Range{Start: []byte("a")}, Position: keyhook.Position{Next: 2}}
		r := runnerOn(b.ledger, st, most, nobody{})
		r.cfg.Consumer = b
		a := &assembler{lookup: r.lookup, maxEvents: most, maxBytes: 1 << 20}
		a.reset(r.state)
		rd := &reader{pos: st.Position}
		for len(history) > 0 {
			n := rapid.IntRange(1, len(history)).Draw(t, "revisions of a response")
			var response []change
			for _, revision := range history[:n] {
				response = append(response, revision...)
			}
			history = history[n:]
			it := rd.take(responseOf(response), time.Time{})
			if err := r.fill(context.Background(), a, &it); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.emit(context.Background(), a); err != nil {
			t.Fatal(err)
		}
		for i, events := range b.all[:len(b.all)-1] {
			last := events[len(events)-1].Revision
			part := 0
			for _, ev := range events {
				if ev.Revision == last {
					part++
				}
			}
			if next := b.all[i+1]; len(next) > 0 && next[0].Revision == last && part < most {
				t.Fatalf("batch %d of %d ends within revision %d, of which it has %d changes", i, len(b.all), last, part)
			}
		}
	})
}
