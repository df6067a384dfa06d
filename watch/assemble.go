package watch

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// assembler makes batches of changes: it fills in what each key held before and
// says what becomes of the mirror. Its lookups see the changes before, those of
// the batch that is being made included.
type assembler struct {
	lookup    func(ctx context.Context, key []byte) (*checkpoint.Entry, error)
	maxEvents int
	maxBytes  int
	// unlisted is a revision whose changes need not follow what the mirror holds.
	unlisted int64

	state      checkpoint.RangeState // behind the batch
	batch      Batch
	keys       map[string]*held // what is known of them, behind the batch
	changed    []*held          // of those, what the batch has changed
	unknown    [][]byte         // room for [overlay.tell]
	bytes      int
	mismatches int

	// What the batch holds of the last revision in it.
	revision              int64
	partEvents, partBytes int
}

// reset begins a batch behind st.
func (a *assembler) reset(st checkpoint.RangeState) {
	a.state = st
	// The next batch is likely to be as large as this one.
	a.batch = Batch{Events: make([]*keyhook.Event, 0, len(a.batch.Events)), Mirror: make([]checkpoint.MirrorChange, 0, len(a.batch.Mirror))}
	a.changed = make([]*held, 0, len(a.changed))
	if a.keys == nil {
		a.keys = make(map[string]*held)
	}
	clear(a.keys)
	clear(a.unknown[:cap(a.unknown)])
	a.bytes, a.mismatches = 0, 0
	a.partEvents, a.partBytes = 0, 0
}

// know notes what the mirror holds of a key that the batch knows nothing of.
func (a *assembler) know(key string, e *checkpoint.Entry) *held {
	h := &held{key: key, entry: e, place: unchanged}
	a.keys[key] = h
	return h
}

// unchanged is the place of what a batch knows and has not changed.
const unchanged = notDurable - 1

func (a *assembler) full() bool {
	return len(a.batch.Events) >= a.maxEvents || a.bytes >= a.maxBytes
}

// divisible reports whether the batch may end here: a revision is divided only
// where a part of it is a batch by itself.
func (a *assembler) divisible() bool {
	return a.state.Position.Admitted == 0 || a.partEvents >= a.maxEvents || a.partBytes >= a.maxBytes
}

// add appends a change. An error is one of the lookup, and leaves a as it was.
func (a *assembler) add(ctx context.Context, c change, received time.Time) error {
	key := c.ev.GetKv().GetKey()
	known := a.keys[string(key)]
	if known == nil {
		e, err := a.lookup(ctx, key)
		if err != nil {
			return err
		}
		known = a.know(string(key), e)
	}
	before := known.entry
	if before != nil && !before.Remembered(a.state.Forgotten) {
		before = nil
	}
	ev := eventOf(c, received)
	after, mismatch := step(ev, before, &a.state.Forgotten)
	if mismatch && ev.Revision != a.unlisted {
		a.mismatches++
	}
	if after != before {
		if known.entry = after; known.place == unchanged {
			known.place = notDurable
			a.changed = append(a.changed, known)
		}
		a.batch.Mirror = append(a.batch.Mirror, checkpoint.MirrorChange{Key: ev.Key, Entry: after})
	}
	if a.batch.Events = append(a.batch.Events, ev); ev.Revision != a.revision {
		a.revision, a.partEvents, a.partBytes = ev.Revision, 0, 0
	}
	a.bytes += ev.Size()
	a.partEvents++
	a.partBytes += ev.Size()
	return nil
}

// step fills in what the key of ev held, and returns what the mirror is to hold
// after it. forgotten counts deletions up. A mismatch means that ev cannot
// directly follow before: history was not read completely.
func step(ev *keyhook.Event, before *checkpoint.Entry, forgotten *uint64) (after *checkpoint.Entry, mismatch bool) {
	switch {
	case before == nil:
	case before.Deleted:
		ev.Last = &before.KeyValue
	default:
		ev.Prev, ev.Last = &before.KeyValue, &before.KeyValue
	}
	if ev.Type == keyhook.Put {
		return &checkpoint.Entry{KeyValue: keyhook.KeyValue{
			Value: ev.Value, Revision: ev.Revision, CreateRevision: ev.CreateRevision, Version: ev.Version, Lease: ev.Lease,
		}}, !follows(ev, ev.Prev)
	}
	if ev.Prev == nil {
		return before, true
	}
	*forgotten += uint64(len(ev.Key) + len(ev.Prev.Value) + deletionWeight)
	return &checkpoint.Entry{KeyValue: *ev.Prev, Deleted: true, Weight: *forgotten}, false
}

// deletionWeight is the part of a deletion's weight that does not depend on its
// key and value.
const deletionWeight = 64

// follows reports whether a put is the next version of what its key held.
func follows(ev *keyhook.Event, prev *keyhook.KeyValue) bool {
	if prev == nil {
		return ev.Version == 1
	}
	return ev.CreateRevision == prev.CreateRevision && ev.Version == prev.Version+1
}

func eventOf(c change, received time.Time) *keyhook.Event {
	kv := c.ev.GetKv()
	ev := &keyhook.Event{
		Type: typeOf(c.ev), Key: kv.GetKey(), Revision: kv.GetModRevision(), Occurrence: c.occurrence, Time: received,
	}
	if ev.Type == keyhook.Put {
		ev.Value, ev.CreateRevision, ev.Version, ev.Lease = kv.GetValue(), kv.GetCreateRevision(), kv.GetVersion(), kv.GetLease()
	}
	return ev
}

// listed are the keys of a page of a seed, as mirror changes and, if emit is
// set, as synthetic changes. Keys that were written at or after the position are
// left out: the watch will bring them.
func listed(kvs []*mvccpb.KeyValue, next int64, emit bool, now time.Time) (events []*keyhook.Event, mirror []checkpoint.MirrorChange) {
	for _, kv := range kvs {
		if kv.GetModRevision() >= next {
			continue
		}
		mirror = append(mirror, checkpoint.MirrorChange{Key: kv.GetKey(), Entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{
			Value: kv.GetValue(), Revision: kv.GetModRevision(), CreateRevision: kv.GetCreateRevision(),
			Version: kv.GetVersion(), Lease: kv.GetLease(),
		}}})
		if emit {
			ev := eventOf(change{ev: &mvccpb.Event{Kv: kv}}, now)
			ev.Synthetic = true
			events = append(events, ev)
		}
	}
	return events, mirror
}
