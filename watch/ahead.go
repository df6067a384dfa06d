package watch

import (
	"bytes"
	"context"
	"slices"

	"keyhook/checkpoint"
)

// lookAhead asks the mirror at once for the keys of the changes that the batch has
// room for, and returns how many changes that are: while a backlog is read, one
// question after the other would take a quarter of the time. The answers are
// bounded by the size of a batch. They hold until the batch is handed on: nothing
// else changes what the mirror holds of the range.
func (r *runner) lookAhead(ctx context.Context, a *assembler, changes []change) (n int, err error) {
	if n = a.maxEvents - len(a.batch.Events); n <= 0 {
		n = a.maxEvents
	}
	n = min(n, len(changes))
	clear(r.ahead)
	keys := r.overlay.missing(changes[:n])
	if len(keys) < 2 {
		return n, nil
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	var found []*checkpoint.Entry
	err = r.askMirror(ctx, func() (err error) {
		found, err = r.cfg.Mirror.LookupAll(ctx, r.cfg.Shard, keys, a.maxBytes)
		return err
	})
	if r.ahead == nil {
		r.ahead = make(map[string]*checkpoint.Entry)
	}
	for i, e := range found {
		r.ahead[string(keys[i])] = e
	}
	return n, err
}

// missing returns the keys of changes that the overlay knows nothing of.
func (o *overlay) missing(changes []change) (keys [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range changes {
		key := c.ev.GetKv().GetKey()
		if _, ok := o.entries[string(key)]; ok {
			continue
		}
		if _, ok := o.recent.get(key); !ok {
			keys = append(keys, key)
		}
	}
	return keys
}
