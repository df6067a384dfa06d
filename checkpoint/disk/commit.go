package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"keyhook/checkpoint"
	"keyhook/checkpoint/record"
)

// Commit implements [checkpoint.Store]. It waits for the disk, however long that
// takes: ctx ends it only before it has begun to write.
func (s *Store) Commit(ctx context.Context, c *checkpoint.Commit) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	db, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.release(db)
	state, err := s.state(db, c.Shard)
	if err != nil {
		return err
	}
	next, err := state.After(c, func(number uint64) (string, bool, error) { return db.sinkOf(c.Shard, number) })
	err = s.failed(db, err)
	if err != nil || next == state {
		return err
	}

	batch := db.NewBatchWithSize(sizeOf(c), pebble.WithMaxRetainedSizeBytes(maxKept))
	defer func() { _ = batch.Close() }() // it only gives its memory back
	w := &writer{encoder: &s.enc, batch: batch, shard: c.Shard}
	if err := w.commit(db, state, next, c); err != nil {
		return s.failed(db, err)
	}
	if err := s.room(batch.Len()); err != nil {
		return err
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		db.fence.trip(err)
	}
	if cause := db.fence.broken(); cause != nil {
		return fmt.Errorf("data directory %s: the outcome of a commit is unknown: %w", s.dir.path, cause)
	}
	db.loading.Lock()
	defer db.loading.Unlock()
	db.states[c.Shard] = next
	return nil
}

// writer puts one commit into a batch.
type writer struct {
	*encoder
	batch *pebble.Batch
	shard uint32
	err   error
}

// maxKept bounds the memory that is kept from one commit to the next.
const maxKept = 4 << 20

func (w *writer) commit(db *database, state, next *checkpoint.State, c *checkpoint.Commit) error {
	if err := w.checkRetried(db, c); err != nil {
		return err
	}
	// What is forgotten goes first: the commit may set it anew.
	if err := w.forget(db, state, c); err != nil {
		return err
	}
	w.ranges(state, next, c)
	w.mirror(c)
	w.lanes(c)
	w.deliveries(c)
	w.dead(state, next, c)
	w.sinks(c)
	w.record(appendPrefix(w.key[:0], w.shard, kindHead), func() error { return record.EncodeHead(&w.buf, next) })
	if w.buf.Cap()+cap(w.value)+cap(w.key) > maxKept {
		*w.encoder = encoder{}
	}
	return w.err
}

// checkRetried finds retries of what is not owed: they would leave a small
// record without its delivery.
func (w *writer) checkRetried(db *database, c *checkpoint.Commit) error {
	for i := range c.Retried {
		ref := c.Retried[i].Ref
		w.key = refKey(w.key, w.shard, kindOwed, ref)
		_, closer, err := db.Get(w.key)
		switch {
		case err == nil:
			if err := closer.Close(); err != nil {
				return err
			}
		case !errors.Is(err, pebble.ErrNotFound):
			return err
		case !slices.ContainsFunc(c.Admitted, func(a checkpoint.Admission) bool { return placeOf(&a) == ref }):
			return fmt.Errorf("%w: the retried delivery %+v is not owed", checkpoint.ErrInvalid, ref)
		}
	}
	return nil
}

// sizeOf guesses the size of the batch that c makes, so that it need not grow
// time and again.
func sizeOf(c *checkpoint.Commit) int {
	const overhead = 64 // of a key, its place and its numbers
	n := 1024 + 2*overhead*(len(c.Retried)+len(c.Settled)+len(c.Ranges)+len(c.DropDead))
	for i := range c.Mirror {
		n += overhead + len(c.Mirror[i].Key)
		if e := c.Mirror[i].Entry; e != nil {
			n += len(e.Value)
		}
	}
	for i := range c.Admitted {
		n += overhead + c.Admitted[i].Delivery.Size()
	}
	for i := range c.Dead {
		n += 2*overhead + c.Dead[i].Delivery.Size()
	}
	return n
}

func placeOf(a *checkpoint.Admission) checkpoint.Ref {
	return checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal}
}

func (w *writer) ranges(state, next *checkpoint.State, c *checkpoint.Commit) {
	for _, r := range c.DropRanges {
		if slices.ContainsFunc(state.Ranges, func(s checkpoint.RangeState) bool { return s.Range.Equal(r) }) {
			w.delete(named(w.key, w.shard, kindRange, r.Start))
		}
	}
	for i := range c.Ranges {
		r := &c.Ranges[i]
		w.record(named(w.key, w.shard, kindRange, r.Range.Start), func() error { return record.EncodeRange(&w.buf, r) })
	}
	for _, r := range checkpoint.Uncovered(c.DropRanges, next.Ranges) {
		w.deleteAll(within(w.shard, kindMirror, r))
		w.deleteAll(within(w.shard, kindDeleted, r))
	}
}

func (w *writer) mirror(c *checkpoint.Commit) {
	for i := range c.Mirror {
		ch := &c.Mirror[i]
		key := named(w.key, w.shard, kindMirror, ch.Key)
		if ch.Entry == nil {
			w.delete(key)
			continue
		}
		w.value = record.AppendEntry(w.value[:0], ch.Entry)
		w.set(key, w.value)
		if ch.Entry.Deleted {
			w.set(named(w.key, w.shard, kindDeleted, ch.Key), binary.BigEndian.AppendUint64(nil, ch.Entry.Weight))
		}
	}
}

func (w *writer) lanes(c *checkpoint.Commit) {
	for _, lane := range c.DropLanes {
		w.delete(laneKey(w.key, w.shard, kindLane, lane))
		w.deleteAll(ofLane(w.shard, kindOwed, lane))
		w.deleteAll(ofLane(w.shard, kindPayload, lane))
	}
	for _, l := range c.Lanes {
		w.record(laneKey(w.key, w.shard, kindLane, l.Number), func() error { return record.EncodeLane(&w.buf, l) })
	}
}

func (w *writer) deliveries(c *checkpoint.Commit) {
	for i := range c.Admitted {
		a := &c.Admitted[i]
		ref := placeOf(a)
		w.record(refKey(w.key, w.shard, kindPayload, ref), func() error { return record.EncodeDelivery(&w.buf, a.Delivery) })
		w.owed(&checkpoint.Owed{Ref: ref, Admitted: a.Delivery.Admitted, Retry: a.Delivery.Retry})
	}
	for i := range c.Retried {
		w.owed(&c.Retried[i])
	}
	for _, ref := range c.Settled {
		w.delete(refKey(w.key, w.shard, kindOwed, ref))
		w.delete(refKey(w.key, w.shard, kindPayload, ref))
	}
}

func (w *writer) owed(o *checkpoint.Owed) {
	w.value = record.AppendOwed(w.value[:0], o)
	w.set(refKey(w.key, w.shard, kindOwed, o.Ref), w.value)
}

func (w *writer) dead(state, next *checkpoint.State, c *checkpoint.Commit) {
	for i := range c.Dead {
		d := &c.Dead[i]
		w.record(numbered(w.key, w.shard, kindDead, d.Number), func() error { return record.EncodeDeadLetter(&w.buf, &d.DeadLetter) })
		small := d.Dead()
		w.value = record.AppendDead(w.value[:0], &small)
		w.set(numbered(w.key, w.shard, kindBuried, d.Number), w.value)
	}
	for _, number := range c.DropDead {
		w.delete(numbered(w.key, w.shard, kindDead, number))
		w.delete(numbered(w.key, w.shard, kindBuried, number))
	}
	for sink, n := range next.DeadLetters {
		if n != state.DeadLetters[sink] {
			w.set(named(w.key, w.shard, kindCount, sink), binary.AppendUvarint(nil, uint64(n))) //nolint:gosec // a count
		}
	}
	for sink := range state.DeadLetters {
		if next.DeadLetters[sink] == 0 {
			w.delete(named(w.key, w.shard, kindCount, sink))
		}
	}
}

func (w *writer) sinks(c *checkpoint.Commit) {
	for _, s := range c.Sinks {
		key := named(w.key, w.shard, kindSink, s.Name)
		if (s == checkpoint.SinkState{Name: s.Name}) {
			w.delete(key)
			continue
		}
		w.record(key, func() error { return record.EncodeSink(&w.buf, s) })
	}
}

// record sets key to what encode writes into w.buf.
func (w *writer) record(key []byte, encode func() error) {
	w.buf.Reset()
	if err := encode(); err != nil {
		w.fail(err)
		return
	}
	w.set(key, w.buf.Bytes())
}

// set, like delete, copies what it is given and keeps key for the next one.
func (w *writer) set(key, value []byte) {
	w.key = key
	w.fail(w.batch.Set(key, value, nil))
}

func (w *writer) delete(key []byte) {
	w.key = key
	w.fail(w.batch.Delete(key, nil))
}

func (w *writer) deleteAll(b bounds) {
	w.fail(w.batch.DeleteRange(b.lower, b.upper, nil))
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}
