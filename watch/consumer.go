package watch

import (
	"context"

	"keyhook"
	"keyhook/checkpoint"
)

// Batch is a run of changes of one range, in order, with the state of the range
// behind it. It is durable as a whole or not at all. A batch without events
// moves a position, begins a range, or removes ranges.
type Batch struct {
	Events []*keyhook.Event          // Prev and Last are filled in
	Mirror []checkpoint.MirrorChange // what the events, or a page of a seed, make of the mirror
	Drop   []keyhook.Range           // ranges that are no longer there; applied before States
	States []checkpoint.RangeState   // states of ranges after this batch
	Epoch  uint64                    // of the history that the events belong to
	// Gap is set in the last batch of a repair: what could not be read, and what
	// came of it. It is to be told of behind the events.
	Gap *keyhook.Gap
	// Durable, if not nil, is to be called once after a commit that holds this
	// batch has succeeded. It may be called from any goroutine and is quick.
	Durable func()
}

// Consumer takes batches. It is called by several goroutines at once, but in
// order for each range.
type Consumer interface {
	// Admit takes b, and blocks while the consumer has no room. An error means
	// that nothing of b was taken: the context's if it ended first; any other
	// ends [Watcher.Run].
	Admit(ctx context.Context, b *Batch) error
	// Flush returns nil when everything that was admitted before is durable.
	Flush(ctx context.Context) error
	// Identify returns nil when id is durable as the history that is followed.
	Identify(ctx context.Context, id checkpoint.Identity) error
}

// Observer is told what happens, for metrics. Its methods are called by several
// goroutines at once and must be quick.
type Observer interface {
	Events(r keyhook.Range, n int)                // were admitted
	Duplicates(r keyhook.Range, n int)            // were sent again by etcd, and dropped
	Mismatches(r keyhook.Range, n int)            // do not follow what the mirror holds: a sign of lost events
	Gap(r keyhook.Range, why keyhook.GapReason)   // history that cannot be read: once for each gap
	Audited(r keyhook.Range, keys, differing int) // were compared with etcd
	Position(r keyhook.Range, revision int64)     // was admitted whole
	Removed(r keyhook.Range)                      // is no longer watched
	Revision(revision int64)                      // etcd's, as far as seen
	Compacted(revision int64)                     // etcd's compacted revision, as far as learnt
}

type nobody struct{}

func (nobody) Events(keyhook.Range, int)            {}
func (nobody) Duplicates(keyhook.Range, int)        {}
func (nobody) Mismatches(keyhook.Range, int)        {}
func (nobody) Gap(keyhook.Range, keyhook.GapReason) {}
func (nobody) Audited(keyhook.Range, int, int)      {}
func (nobody) Position(keyhook.Range, int64)        {}
func (nobody) Removed(keyhook.Range)                {}
func (nobody) Revision(int64)                       {}
func (nobody) Compacted(int64)                      {}
