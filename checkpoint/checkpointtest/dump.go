package checkpointtest

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/cespare/xxhash/v2"

	"keyhook"
	"keyhook/checkpoint"
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
		fmt.Fprintf(&out, "range %v %+v forgotten=%d epoch=%d seed=%+v anchor=%+v repair=%+v\n",
			r.Range, r.Position, r.Forgotten, r.Epoch, r.Seed, r.Anchor, r.Repair)
	}
	full, err := slicesOf(b.Deliveries(ctx, shard, checkpoint.Ref{}))
	if err != nil {
		return "", fmt.Errorf("deliveries: %w", err)
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
		if len(full) == 0 || full[0].Lane != o.Lane || full[0].Chain != o.Chain || !reflect.DeepEqual(full[0].Delivery, ds[0]) {
			return "", fmt.Errorf("delivery %+v is not where the deliveries have it", o)
		}
		full = full[1:]
		fmt.Fprintf(&out, "owed %+v ", o)
		describe(&out, ds[0])
	}
	if len(full) > 0 {
		return "", fmt.Errorf("%d deliveries that are not owed", len(full))
	}
	small, err := slicesOf(b.Dead(ctx, shard))
	if err != nil {
		return "", fmt.Errorf("dead: %w", err)
	}
	for d, err := range b.DeadLetters(ctx, shard, 0) {
		if err != nil {
			return "", fmt.Errorf("dead letters: %w", err)
		}
		if len(small) == 0 || small[0] != d.Dead() {
			return "", fmt.Errorf("the small record of dead letter %d is not its own: %+v", d.Number, small)
		}
		small = small[1:]
		fmt.Fprintf(&out, "dead %d %s %q %v ", d.Number, d.Reason, d.Error, d.FailedAt)
		describe(&out, d.Delivery)
	}
	if len(small) > 0 {
		return "", fmt.Errorf("small records without a dead letter: %+v", small)
	}
	for e, err := range b.Entries(ctx, shard, keyhook.Range{}) {
		if err != nil {
			return "", fmt.Errorf("entries: %w", err)
		}
		looked, err := b.Lookup(ctx, shard, e.Key)
		if err != nil {
			return "", fmt.Errorf("lookup: %w", err)
		}
		if !reflect.DeepEqual(looked, &e.Entry) {
			return "", fmt.Errorf("the entry of %q differs when it is looked up", e.Key)
		}
		fmt.Fprintf(&out, "key %q %s deleted=%v weight=%d\n", e.Key, held(&e.KeyValue), e.Deleted, e.Weight)
	}
	return out.String(), nil
}

// slicesOf collects what seq yields up to its first error.
func slicesOf[T any](seq iter.Seq2[T, error]) (all []T, err error) {
	for item, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

func describe(out *strings.Builder, d *keyhook.Delivery) {
	flat := *d
	flat.Event, flat.Rejected, flat.Message.Body = nil, nil, nil
	fmt.Fprintf(out, "%+v body=%s rejected=%+v", flat, digest(d.Message.Body), d.Rejected)
	if d.Event != nil {
		e := *d.Event
		e.Prev, e.Last, e.Value = nil, nil, nil
		fmt.Fprintf(out, " event=%+v value=%s prev=%s last=%s", e, digest(d.Event.Value), held(d.Event.Prev), held(d.Event.Last))
	}
	out.WriteByte('\n')
}

func held(kv *keyhook.KeyValue) string {
	if kv == nil {
		return "none"
	}
	return fmt.Sprintf("%s revision=%d created=%d version=%d lease=%d", digest(kv.Value), kv.Revision, kv.CreateRevision, kv.Version, kv.Lease)
}

// digest stands for bytes that nobody wants to read.
func digest(b []byte) string { return fmt.Sprintf("%d:%016x", len(b), xxhash.Sum64(b)) }
