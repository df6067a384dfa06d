package watch

import (
	"math/rand/v2"
	"sync"

	"keyhook"
	"keyhook/checkpoint"
)

// overlay holds the mirror changes that were admitted but are not durable yet:
// what the mirror will hold. It also remembers some that have become durable
// lately, because a key that has changed will change again, and the store is slow
// to ask. It is shared by all ranges of a watcher.
type overlay struct {
	mu      sync.Mutex
	entries map[string]*held
	durable []*held // of the entries, in no order
	bytes   int     // of those that are durable
}

// held is what the mirror is going to hold of a key, or holds. Once an overlay has
// it, only its place there changes.
type held struct {
	key   string
	entry *checkpoint.Entry
	place int // in overlay.durable; notDurable
}

const notDurable = -1

// pending are the changes of one batch. They are added when the batch was
// admitted, and released when it is durable, which may be the other way round:
// the consumer may commit a batch before Admit has returned.
type pending struct {
	overlay *overlay
	changes []*held // of distinct keys
	added   bool
	durable bool
}

func newOverlay() *overlay { return &overlay{entries: make(map[string]*held)} }

func (o *overlay) lookup(key []byte) (*checkpoint.Entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if h, ok := o.entries[string(key)]; ok {
		return h.entry, true
	}
	return nil, false
}

// within returns what the mirror will hold of keys of r, apart from what it holds.
func (o *overlay) within(r keyhook.Range) map[string]*checkpoint.Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := make(map[string]*checkpoint.Entry)
	for key, h := range o.entries {
		if h.place == notDurable && r.Contains([]byte(key)) {
			found[key] = h.entry
		}
	}
	return found
}

// size returns how many changes are not durable.
func (o *overlay) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries) - len(o.durable)
}

// forget removes the keys of r.
func (o *overlay) forget(r keyhook.Range) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, h := range o.entries {
		if r.Contains([]byte(key)) {
			o.drop(h)
			delete(o.entries, key)
		}
	}
}

// add makes the changes visible.
func (p *pending) add() {
	o := p.overlay
	o.mu.Lock()
	defer o.mu.Unlock()
	p.added = true
	for _, h := range p.changes {
		if before := o.entries[h.key]; before != nil {
			o.drop(before)
		}
		h.place = notDurable
		o.entries[h.key] = h
		if p.durable {
			o.keep(h)
		}
	}
}

// release is [Batch.Durable].
func (p *pending) release() {
	o := p.overlay
	o.mu.Lock()
	defer o.mu.Unlock()
	p.durable = true
	if !p.added {
		return
	}
	for _, h := range p.changes {
		if o.entries[h.key] == h { // nothing newer has come
			o.keep(h)
		}
	}
}

// recentBytes bounds what is remembered of durable entries.
const recentBytes = 8 << 20

// keep remembers h, which has become durable. What is forgotten for it is chosen
// by chance: of keys that change in turn, and are more than there is room for, the
// oldest ones would each be forgotten just before they are asked for.
func (o *overlay) keep(h *held) {
	for o.bytes += h.size(); o.bytes > recentBytes && len(o.durable) > 0; {
		victim := o.durable[rand.IntN(len(o.durable))] //nolint:gosec // no secret
		o.drop(victim)
		delete(o.entries, victim.key)
	}
	h.place = len(o.durable)
	o.durable = append(o.durable, h)
}

// drop takes h out of what is durable, if it is a part of it.
func (o *overlay) drop(h *held) {
	if h.place == notDurable {
		return
	}
	last := len(o.durable) - 1
	moved := o.durable[last]
	o.durable[h.place], moved.place = moved, h.place
	o.durable[last] = nil
	o.durable = o.durable[:last]
	o.bytes -= h.size()
	h.place = notDurable
}

func (h *held) size() int {
	n := len(h.key) + entryOverhead
	if h.entry != nil {
		n += len(h.entry.Value)
	}
	return n
}

const entryOverhead = 150 // of an entry and its places, near enough
