package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// How a history is recognised. A cluster that was set up anew with the same flags
// has the same id, and soon as many revisions. So with each position goes an
// anchor: the newest change of the range up to there, listed or read. Two things
// must be so in the same history:
//
//   - At the position, the anchor's key holds the anchor's change. Where that was a
//     deletion, the key is absent in many a history: so an older anchor that was a
//     put counts as well, at its own revision.
//   - At the position, no key of the range is newer than the anchor; and none is
//     there at all if the range was empty and nothing was read.
//
// The first costs the read of one key or two, and is asked for before each watch. The
// second is asked for only if the position has passed the anchor by progress
// alone: where changes come all the time the anchor is at the position, or near
// it. It costs a listing of keys of bounded size, so in a range of more keys it
// is a sample. What a history holds besides, old values for instance, is not
// compared.

// recognise makes the first test. A compacted position says nothing: either the
// watch is refused, or the position is the one right before the compacted
// revision.
func (r *runner) recognise(ctx context.Context, pos keyhook.Position, anchor *checkpoint.Anchor) error {
	if anchor == nil {
		return nil
	}
	if put := anchor.Put; put != nil {
		if err := r.recognise(ctx, keyhook.After(put.Revision), put); err != nil {
			return err
		}
	}
	kv, err := r.etcd.at(ctx, anchor.Key, pos.Revision())
	switch {
	case errors.Is(err, errCompacted):
		return nil
	case err != nil:
		return err
	case !holds(anchor, kv):
		return rolledBackError(r.rng, fmt.Errorf("etcd's history is another one: the change of revision %d that was read before is not in it", anchor.Revision))
	}
	return nil
}

// sampleKeys bounds the listing of the second test. As etcd counts all keys up to
// the end of what is listed, under a lock that writes need (12 ms for 100,000), the
// listing ends at a key of the mirror. A filter by revision would make it read all
// values.
const sampleKeys = 1000

// quiet makes the second test. Without an anchor it needs to be known that the
// range was empty.
func (r *runner) quiet(ctx context.Context, pos keyhook.Position, anchor *checkpoint.Anchor) error {
	newest := int64(0)
	switch {
	case anchor != nil:
		newest = anchor.Revision
	case !r.empty:
		return nil
	}
	if pos.Revision() <= newest {
		return nil
	}
	sample, err := mirrored(ctx, r.cfg.Mirror, r.cfg.Shard, r.rng, sampleKeys)
	if err != nil {
		return mirrorFailed(r.rng, err)
	}
	kvs, err := r.etcd.keys(ctx, keyhook.Range{Start: r.rng.Start, End: sample.end}, pos.Revision(), sampleKeys)
	if errors.Is(err, errCompacted) {
		return nil
	}
	for _, kv := range kvs {
		if rev := kv.GetModRevision(); rev > newest {
			return rolledBackError(r.rng, fmt.Errorf("etcd's history is another one: it has a change of revision %d, but up to revision %d none was read after revision %d",
				rev, pos.Revision(), newest))
		}
	}
	return err
}

// recall finds the anchor of a range that lost it when the ranges changed, in the
// mirror. The mirror is durable, and stands at the position; but in the middle of
// a revision it holds changes that lie behind it.
func (r *runner) recall(ctx context.Context) error {
	st := &r.state
	if st.Position.Admitted > 0 || st.Anchor != nil && r.rng.Contains(st.Anchor.Key) {
		return nil
	}
	var found *checkpoint.Anchor
	err := r.askMirror(ctx, func() error {
		found = nil
		for e, err := range r.cfg.Mirror.Entries(ctx, r.cfg.Shard, r.rng) {
			if err != nil {
				return err
			}
			if !e.Deleted && (found == nil || e.Revision > found.Revision) {
				found = &checkpoint.Anchor{Type: keyhook.Put, Key: e.Key, Revision: e.Revision, ValueHash: xxhash.Sum64(e.Value)}
			}
		}
		return nil
	})
	st.Anchor, r.empty = found, err == nil && found == nil
	return err
}

// newestOf returns the anchor of a listing: anchor, or the newest of kvs that lies
// before next.
func newestOf(anchor *checkpoint.Anchor, kvs []*mvccpb.KeyValue, next int64) *checkpoint.Anchor {
	newest := int64(0)
	if anchor != nil {
		newest = anchor.Revision
	}
	var found *mvccpb.KeyValue
	for _, kv := range kvs {
		if rev := kv.GetModRevision(); rev > newest && rev < next {
			newest, found = rev, kv
		}
	}
	if found == nil {
		return anchor
	}
	return anchorOf(&mvccpb.Event{Kv: found})
}

// anchorAfter returns the anchor that ev is, the last event of a revision, behind
// an older one.
func anchorAfter(older *checkpoint.Anchor, ev *mvccpb.Event) *checkpoint.Anchor {
	a := anchorOf(ev)
	switch {
	case a.Type == keyhook.Put || older == nil:
	case older.Type == keyhook.Put:
		a.Put = older
	default:
		a.Put = older.Put
	}
	return a
}

func anchorOf(ev *mvccpb.Event) *checkpoint.Anchor {
	kv := ev.GetKv()
	a := &checkpoint.Anchor{Type: typeOf(ev), Key: kv.GetKey(), Revision: kv.GetModRevision()}
	if a.Type == keyhook.Put {
		a.ValueHash = xxhash.Sum64(kv.GetValue())
	}
	return a
}

// holds reports whether what a key holds at the anchor's revision is the
// anchor's change.
func holds(a *checkpoint.Anchor, kv *mvccpb.KeyValue) bool {
	if a.Type == keyhook.Delete {
		return kv == nil
	}
	return kv != nil && kv.GetModRevision() == a.Revision && xxhash.Sum64(kv.GetValue()) == a.ValueHash && bytes.Equal(kv.GetKey(), a.Key)
}
