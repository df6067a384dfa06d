package checkpointtest

import (
	"context"
	"fmt"
	"strings"

	"keyhook"
)

// Dump writes down all that b holds for a shard, so that two backends can be
// compared.
func Dump(ctx context.Context, b Backend, shard uint32) (string, error) {
	var out strings.Builder
	state, err := b.Load(ctx, shard)
	if err != nil {
		return "", fmt.Errorf("load: %w", err)
	}
	ranges := state.Ranges
	state.Ranges = nil
	fmt.Fprintf(&out, "%+v\n", *state)
	for _, r := range ranges {
		fmt.Fprintf(&out, "range %v %+v forgotten=%d seed=%+v anchor=%+v\n", r.Range, r.Position, r.Forgotten, r.Seed, r.Anchor)
	}
	for o, err := range b.Owed(ctx, shard) {
		if err != nil {
			return "", fmt.Errorf("owed: %w", err)
		}
		ds, err := b.Read(ctx, shard, o.Lane, o.Chain, o.Ordinal, 0)
		if err != nil {
			return "", fmt.Errorf("read: %w", err)
		}
		if len(ds) != 1 || ds[0].Ordinal != o.Ordinal || ds[0].Retry != o.Retry {
			return "", fmt.Errorf("delivery %+v is read as %+v", o, ds)
		}
		fmt.Fprintf(&out, "owed %+v ", o)
		describe(&out, ds[0])
	}
	for d, err := range b.DeadLetters(ctx, shard) {
		if err != nil {
			return "", fmt.Errorf("dead letters: %w", err)
		}
		fmt.Fprintf(&out, "dead %d %s %q %v ", d.Number, d.Reason, d.Error, d.FailedAt)
		describe(&out, d.Delivery)
	}
	for e, err := range b.Entries(ctx, shard, keyhook.Range{}) {
		if err != nil {
			return "", fmt.Errorf("entries: %w", err)
		}
		looked, err := b.Lookup(ctx, shard, e.Key)
		if err != nil {
			return "", fmt.Errorf("lookup: %w", err)
		}
		if looked == nil || fmt.Sprint(*looked) != fmt.Sprint(e.Entry) {
			return "", fmt.Errorf("entry %+v is looked up as %+v", e, looked)
		}
		fmt.Fprintf(&out, "key %q %+v\n", e.Key, e.Entry)
	}
	return out.String(), nil
}

func describe(out *strings.Builder, d *keyhook.Delivery) {
	flat := *d
	flat.Event, flat.Rejected = nil, nil
	fmt.Fprintf(out, "%+v rejected=%+v", flat, d.Rejected)
	if d.Event != nil {
		e := *d.Event
		e.Prev, e.Last = nil, nil
		fmt.Fprintf(out, " event=%+v prev=%+v last=%+v", e, d.Event.Prev, d.Event.Last)
	}
	out.WriteByte('\n')
}
