package watch

import (
	"sync"

	"keyhook"
	"keyhook/checkpoint"
)

// overlay holds the mirror changes that were admitted but are not durable yet:
// what the mirror will hold. It is shared by all ranges of a watcher.
type overlay struct {
	mu      sync.Mutex
	entries map[string]overlaid
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
	e, ok := o.entries[string(key)]
	return e.entry, ok
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
}

// add makes the changes visible, unless the mirror has them already.
func (p *pending) add() {
	o := p.overlay
	o.mu.Lock()
	defer o.mu.Unlock()
	if p.durable {
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
	for key := range p.changes {
		if o.entries[key].by == p {
			delete(o.entries, key)
		}
	}
}
