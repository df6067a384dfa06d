package watch

import (
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
	entries map[string]overlaid
	recent  recent
}

type overlaid struct {
	entry *checkpoint.Entry
	by    *pending
}

// pending are the changes of one batch. They are added when the batch was
// admitted, and released when it is durable, which may be the other way round:
// the consumer may commit a batch before Admit has returned.
type pending struct {
	overlay *overlay
	changes map[string]*checkpoint.Entry
	added   bool
	durable bool
}

func newOverlay() *overlay { return &overlay{entries: make(map[string]overlaid)} }

func (o *overlay) lookup(key []byte) (*checkpoint.Entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.entries[string(key)]; ok {
		return e.entry, true
	}
	return o.recent.get(key)
}

// within returns what the mirror will hold of keys of r, apart from what it holds.
func (o *overlay) within(r keyhook.Range) map[string]*checkpoint.Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := make(map[string]*checkpoint.Entry)
	for key, e := range o.entries {
		if r.Contains([]byte(key)) {
			found[key] = e.entry
		}
	}
	return found
}

func (o *overlay) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.entries)
}

// forget removes the keys of r.
func (o *overlay) forget(r keyhook.Range) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.entries {
		if r.Contains([]byte(key)) {
			delete(o.entries, key)
		}
	}
	o.recent = recent{}
}

// add makes the changes visible, unless the mirror has them already.
func (p *pending) add() {
	o := p.overlay
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.durable {
		for key, e := range p.changes {
			o.recent.put(key, e)
		}
		return
	}
	p.added = true
	for key, e := range p.changes {
		o.entries[key] = overlaid{entry: e, by: p}
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
	for key, e := range p.changes {
		if o.entries[key].by == p {
			delete(o.entries, key)
			o.recent.put(key, e)
		}
	}
}

// recentBytes bounds what is remembered of durable entries.
const recentBytes = 8 << 20

// recent remembers entries in two generations: when the young one has grown to
// half of the bound, the old one is forgotten.
type recent struct {
	young, old map[string]*checkpoint.Entry
	bytes      int // of the young
}

func (r *recent) put(key string, e *checkpoint.Entry) {
	size := len(key) + entryOverhead
	if e != nil {
		size += len(e.Value)
	}
	if r.bytes += size; r.young == nil || r.bytes > recentBytes/2 {
		r.young, r.old, r.bytes = make(map[string]*checkpoint.Entry), r.young, size
	}
	r.young[key] = e
}

func (r *recent) get(key []byte) (*checkpoint.Entry, bool) {
	if e, ok := r.young[string(key)]; ok {
		return e, true
	}
	e, ok := r.old[string(key)]
	return e, ok
}

const entryOverhead = 150 // of an entry and its place in a map, near enough
