package watch

import (
	"bytes"
	"context"
	"slices"

	"keyhook/checkpoint"
)

// lookAhead lets the batch know what the mirror holds of the keys of the changes
// that it has room for, and returns how many changes that are. The mirror is asked
// for all of them at once: while a backlog is read, one question after the other
// would take a quarter of the time. The answers are bounded by the size of a
// batch. They hold until the batch is handed on: nothing else changes what the
// mirror holds of the range.
func (r *runner) lookAhead(ctx context.Context, a *assembler, changes []change) (n int, err error) {
	if n = a.maxEvents - len(a.batch.Events); n <= 0 {
		n = a.maxEvents
	}
	n = min(n, len(changes))
	keys := r.overlay.tell(a, changes[:n])
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
	for i, e := range found {
		a.know(string(keys[i]), e)
	}
	return n, err
}

// tell lets a know what the overlay knows of the keys of changes, and returns
// those that neither of them knows, in the room of those that it returned before.
func (o *overlay) tell(a *assembler, changes []change) (unknown [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	unknown = a.unknown[:0]
	for _, c := range changes {
		key := c.ev.GetKv().GetKey()
		if _, ok := a.keys[string(key)]; ok {
			continue
		}
		if h, ok := o.entries[string(key)]; ok {
			a.know(h.key, h.entry)
		} else {
			unknown = append(unknown, key)
		}
	}
	a.unknown = unknown
	return unknown
}
