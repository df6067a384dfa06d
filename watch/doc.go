// Package watch reads etcd's history: every committed change of the watched
// ranges of keys, in order, with what the key held before.
//
// Each range has one watcher and one [keyhook.Position]. A position moves only
// with the changes themselves, or with a progress notification that arrives in
// their stream: never by another response's revision, which may be far ahead of
// what was delivered. Whatever interrupts a watcher, it begins again at its
// position, after linearizable reads have shown that etcd's history still
// contains it: it is not behind the position, and what it holds there agrees with
// the newest change that was listed or read. Ready is said only of a position
// whose next revision is not compacted.
//
//	etcd ──▶ receive ──▶ queue ──▶ admit ──▶ Consumer
//	         position    bounded   prev and   blocks when it
//	         guard       in bytes  last       has no room
//
// The life of a range:
//
//	never watched ─▶ start durable ─▶ seed, page by page ─▶ watching ◀─▶ interrupted
//	                       ▲                │ seed compacted     │
//	                       └────────────────┘                    ▼
//	                                             halted (compacted, rolled back,
//	                                                     another cluster)
//
// A halted range reads nothing and goes on by itself only if etcd turns out to
// hold its history after all; the other ranges are not affected. Nothing is
// skipped silently: what cannot be read is an [Error] in [Watcher.Status], with
// a hint for the operator.
//
// The previous values come from the checkpoint's mirror, seeded by listing the
// range at one revision, with the changes laid over it that were admitted but
// are not durable yet.
//
// "Every change" holds while the position is newer than etcd's compaction, and
// as long as the server has none of the defects that a warning names.
package watch
