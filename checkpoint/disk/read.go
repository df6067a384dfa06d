package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/record"
)

var errIncomplete = fmt.Errorf("%w: an owed delivery has one of its two records only", record.ErrMalformed)

// Load implements [checkpoint.Store].
func (s *Store) Load(ctx context.Context, shard uint32) (*checkpoint.State, error) {
	db, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(db)
	state, err := s.state(db, shard)
	if err != nil {
		return nil, err
	}
	return state.Clone(), nil
}

// state returns the shard's state as of its last commit, for nobody to change.
func (s *Store) state(db *database, shard uint32) (*checkpoint.State, error) {
	db.loading.Lock()
	defer db.loading.Unlock()
	if state := db.states[shard]; state != nil {
		return state, nil
	}
	state, err := db.load(shard)
	if err != nil {
		return nil, s.failed(db, err)
	}
	db.states[shard] = state
	return state, nil
}

func (db *database) load(shard uint32) (*checkpoint.State, error) {
	snap := db.NewSnapshot()
	defer func() { _ = snap.Close() }() // it always succeeds
	st := &checkpoint.State{}
	parts := []struct {
		kind byte
		add  func(name, value []byte) error
	}{
		{kindHead, func(_, v []byte) error { return record.DecodeHead(v, st) }},
		{kindRange, func(_, v []byte) error {
			r, err := record.DecodeRange(v)
			st.Ranges = append(st.Ranges, r)
			return err
		}},
		{kindLane, func(_, v []byte) error {
			l, err := record.DecodeLane(v)
			st.Lanes = append(st.Lanes, l)
			return err
		}},
		{kindSink, func(_, v []byte) error {
			k, err := record.DecodeSink(v)
			st.Sinks = append(st.Sinks, k)
			return err
		}},
		{kindCount, func(name, v []byte) error {
			n, size := binary.Uvarint(v)
			if size <= 0 {
				return fmt.Errorf("%w: count of dead letters", record.ErrMalformed)
			}
			if st.DeadLetters == nil {
				st.DeadLetters = make(map[string]int)
			}
			st.DeadLetters[string(name)] = int(n) //nolint:gosec // a count
			return nil
		}},
	}
	for _, p := range parts {
		err := scan(snap, all(shard, p.kind), func(key []byte, value func() ([]byte, error)) (bool, error) {
			v, err := value()
			if err != nil {
				return false, err
			}
			return true, p.add(key[prefixLen:], v)
		})
		if err != nil {
			return nil, err
		}
	}
	return st, nil
}

// scan calls visit with each key of b, until it returns false or an error. Keys
// and values are good until visit returns.
func scan(r pebble.Reader, b bounds, visit func(key []byte, value func() ([]byte, error)) (bool, error)) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: b.lower, UpperBound: b.upper})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := it.Close(); err == nil { // it repeats what went wrong before
			err = closeErr
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		if more, err := visit(it.Key(), it.ValueAndErr); err != nil || !more {
			return err
		}
	}
	return it.Error()
}

// each yields what decode makes of the keys of b.
func each[T any](ctx context.Context, s *Store, b bounds, decode func(key, value []byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		db, err := s.acquire(ctx)
		if err != nil {
			yield(none, err)
			return
		}
		defer s.release(db)
		stopped := false
		err = scan(db, b, func(key []byte, value func() ([]byte, error)) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			v, err := value()
			if err != nil {
				return false, err
			}
			item, err := decode(key, v)
			if err != nil {
				return false, err
			}
			stopped = !yield(item, nil)
			return !stopped, nil
		})
		if err != nil && !stopped {
			yield(none, s.failed(db, err))
		}
	}
}

// Owed implements [checkpoint.Store].
func (s *Store) Owed(ctx context.Context, shard uint32) iter.Seq2[checkpoint.Owed, error] {
	return each(ctx, s, all(shard, kindOwed), func(key, value []byte) (checkpoint.Owed, error) {
		ref, ok := parseRef(key)
		if !ok {
			return checkpoint.Owed{}, fmt.Errorf("%w: key of an owed delivery", record.ErrMalformed)
		}
		o, err := record.DecodeOwed(value)
		o.Ref = ref
		return o, err
	})
}

// Read implements [checkpoint.Store].
func (s *Store) Read(ctx context.Context, shard, lane uint32, chain, from uint64, maxBytes int) ([]*keyhook.Delivery, error) {
	db, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(db)
	first := checkpoint.Ref{Lane: lane, Chain: chain, Ordinal: from}
	ds, err := db.read(shard, first, maxBytes)
	return ds, s.failed(db, err)
}

func (db *database) read(shard uint32, first checkpoint.Ref, maxBytes int) (ds []*keyhook.Delivery, err error) {
	err = db.owed(ofChain(shard, kindOwed, first), ofChain(shard, kindPayload, first), func(_ checkpoint.Ref, d *keyhook.Delivery) (bool, error) {
		if maxBytes -= d.Size(); maxBytes < 0 && len(ds) > 0 {
			return false, nil
		}
		ds = append(ds, d)
		return true, nil
	})
	return ds, err
}

// owed walks along the deliveries and their small records in step, until visit
// returns false or an error.
func (db *database) owed(small, payload bounds, visit func(checkpoint.Ref, *keyhook.Delivery) (bool, error)) (err error) {
	snap := db.NewSnapshot()
	defer func() { _ = snap.Close() }() // it always succeeds
	owed, err := snap.NewIter(&pebble.IterOptions{LowerBound: small.lower, UpperBound: small.upper})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := owed.Close(); err == nil {
			err = closeErr
		}
	}()
	ok, all := owed.First(), true
	err = scan(snap, payload, func(key []byte, value func() ([]byte, error)) (bool, error) {
		ref, valid := parseRef(key)
		if !valid || !ok || !bytes.Equal(key[prefixLen:], owed.Key()[prefixLen:]) {
			return false, errors.Join(errIncomplete, owed.Error())
		}
		d, err := delivery(value, owed.ValueAndErr)
		if err != nil {
			return false, err
		}
		all, err = visit(ref, d)
		ok = owed.Next()
		return all, err
	})
	switch {
	case err != nil:
		return err
	case ok && all:
		return errIncomplete
	}
	return owed.Error()
}

func delivery(payload, owed func() ([]byte, error)) (*keyhook.Delivery, error) {
	p, err := payload()
	if err != nil {
		return nil, err
	}
	d, err := record.DecodeDelivery(p)
	if err != nil {
		return nil, err
	}
	v, err := owed()
	if err != nil {
		return nil, err
	}
	o, err := record.DecodeOwed(v)
	d.Admitted, d.Retry = o.Admitted, o.Retry
	return d, err
}

// Find implements [checkpoint.Store].
func (s *Store) Find(ctx context.Context, shard uint32, refs []checkpoint.Ref) ([]checkpoint.Owed, error) {
	db, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(db)
	found, err := db.find(ctx, shard, refs)
	return found, s.failed(db, err)
}

// find looks refs up with one iterator: in ascending order, as they come from a
// list, each block is read once.
func (db *database) find(ctx context.Context, shard uint32, refs []checkpoint.Ref) (found []checkpoint.Owed, err error) {
	b := all(shard, kindOwed)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: b.lower, UpperBound: b.upper})
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := it.Close(); err == nil { // it repeats what went wrong before
			err = closeErr
		}
	}()
	var key []byte
	for _, ref := range refs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key = refKey(key, shard, kindOwed, ref)
		if !it.SeekGE(key) || !bytes.Equal(it.Key(), key) {
			if err := it.Error(); err != nil {
				return nil, err
			}
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		o, err := record.DecodeOwed(v)
		if err != nil {
			return nil, err
		}
		o.Ref = ref
		found = append(found, o)
	}
	return found, nil
}

// Deliveries implements [checkpoint.Store].
func (s *Store) Deliveries(ctx context.Context, shard uint32, from checkpoint.Ref) iter.Seq2[checkpoint.Admission, error] {
	return func(yield func(checkpoint.Admission, error) bool) {
		db, err := s.acquire(ctx)
		if err != nil {
			yield(checkpoint.Admission{}, err)
			return
		}
		defer s.release(db)
		stopped := false
		err = db.owed(bounded(shard, kindOwed, from), bounded(shard, kindPayload, from), func(ref checkpoint.Ref, d *keyhook.Delivery) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			stopped = !yield(checkpoint.Admission{Lane: ref.Lane, Chain: ref.Chain, Delivery: d}, nil)
			return !stopped, nil
		})
		if err != nil && !stopped {
			yield(checkpoint.Admission{}, s.failed(db, err))
		}
	}
}

// Dead implements [checkpoint.Store].
func (s *Store) Dead(ctx context.Context, shard uint32) iter.Seq2[checkpoint.Dead, error] {
	return each(ctx, s, all(shard, kindBuried), func(key, value []byte) (checkpoint.Dead, error) {
		number, err := parseNumber(key)
		if err != nil {
			return checkpoint.Dead{}, err
		}
		d, err := record.DecodeDead(value)
		d.Number = number
		return d, err
	})
}

// DeadLetters implements [checkpoint.Store].
func (s *Store) DeadLetters(ctx context.Context, shard uint32, from uint64) iter.Seq2[checkpoint.DeadLetter, error] {
	b := all(shard, kindDead)
	b.lower = numbered(nil, shard, kindDead, from)
	return each(ctx, s, b, func(key, value []byte) (checkpoint.DeadLetter, error) {
		number, err := parseNumber(key)
		if err != nil {
			return checkpoint.DeadLetter{}, err
		}
		d, err := record.DecodeDeadLetter(value)
		return checkpoint.DeadLetter{Number: number, DeadLetter: d}, err
	})
}

// parseNumber reads the number out of the key of a dead letter.
func parseNumber(key []byte) (uint64, error) {
	if len(key) != prefixLen+8 {
		return 0, fmt.Errorf("%w: key of a dead letter", record.ErrMalformed)
	}
	return binary.BigEndian.Uint64(key[prefixLen:]), nil
}

// sinkOf returns the sink of a dead letter, if there is such a one.
func (db *database) sinkOf(shard uint32, number uint64) (string, bool, error) {
	v, closer, err := db.Get(numbered(nil, shard, kindBuried, number))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	d, err := record.DecodeDead(v)
	return d.Sink, true, errors.Join(err, closer.Close())
}

// Lookup implements [checkpoint.Mirror].
func (s *Store) Lookup(ctx context.Context, shard uint32, key []byte) (*checkpoint.Entry, error) {
	db, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(db)
	e, err := db.lookup(named(nil, shard, kindMirror, key))
	return e, s.failed(db, err)
}

// lookup returns the entry at a key of the database, nil if there is none.
func (db *database) lookup(key []byte) (*checkpoint.Entry, error) {
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := record.DecodeEntry(v)
	return e, errors.Join(err, closer.Close())
}

// LookupAll implements [checkpoint.Mirror].
func (s *Store) LookupAll(ctx context.Context, shard uint32, keys [][]byte, maxBytes int) ([]*checkpoint.Entry, error) {
	db, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.release(db)
	found, err := db.lookupAll(ctx, shard, keys, maxBytes)
	return found, s.failed(db, err)
}

// lookupAll looks keys up with one iterator: it keeps tables and blocks at hand
// that each look-up by itself would open anew, and asks their filters first.
func (db *database) lookupAll(ctx context.Context, shard uint32, keys [][]byte, maxBytes int) (found []*checkpoint.Entry, err error) {
	b := all(shard, kindMirror)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: b.lower, UpperBound: b.upper})
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := it.Close(); err == nil { // it repeats what went wrong before
			err = closeErr
		}
	}()
	var name []byte
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name = named(name, shard, kindMirror, key)
		if !it.SeekPrefixGE(name) || !bytes.Equal(it.Key(), name) {
			if err := it.Error(); err != nil {
				return nil, err
			}
			found = append(found, nil)
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if maxBytes -= len(v); maxBytes < 0 && len(found) > 0 {
			break
		}
		e, err := record.DecodeEntry(v)
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, nil
}

// Entries implements [checkpoint.Mirror].
func (s *Store) Entries(ctx context.Context, shard uint32, r keyhook.Range) iter.Seq2[checkpoint.KeyEntry, error] {
	return each(ctx, s, within(shard, kindMirror, r), func(key, value []byte) (checkpoint.KeyEntry, error) {
		e, err := record.DecodeEntry(value)
		if err != nil {
			return checkpoint.KeyEntry{}, err
		}
		return checkpoint.KeyEntry{Key: bytes.Clone(key[prefixLen:]), Entry: *e}, nil
	})
}
