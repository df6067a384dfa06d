// Package disk keeps checkpoints and mirrors in a directory, in Pebble, whose
// types stay inside.
//
// A commit is one batch of Pebble's, synced before it is acknowledged. It holds
// the directory alone: a second process is refused. A directory that belongs to
// something else, was written by a newer keyhook or is damaged is an [Error]
// with a hint, never a fresh start.
//
// # When the disk fails
//
// After the first write that fails nothing more reaches the disk. Pebble cannot
// go on after a failed write and ends the process, so it is not told: below it
// lies a [fence] that, from that moment on, takes every write and drops it. What
// is on the disk is then what a crash at that moment would have left, the case
// that Pebble is made for. The commit under way fails with an unknown outcome,
// the database is closed, and the next call opens it again and finds out.
//
//	          a write fails              the next call
//	┌──────┐ ───────────────▶ ┌────────┐ ─────────────▶ ┌─────────────┐
//	│ open │                  │ fenced │                │ opened anew │
//	└──────┘ ◀─────────────── └────────┘ ◀───────────── └─────────────┘
//	                  ▲           fails: the call fails, the one after tries again
//	                  └── succeeds
//
// An fsync that failed says nothing about the pages that it was to write, and a
// later one may succeed without them. Opening therefore writes what it recovers
// into new files, synced, before anything is adopted.
//
// # Keys
//
// Every key begins with the shard, so that shards never meet. Numbers are
// big-endian. The delivery itself is written once; what changes with each try
// is a small record beside it, and a start reads the small ones only.
//
//	shard h                       head: term, sequence, ordinals, identity
//	shard r <start>               range
//	shard l <lane>                lane
//	shard x <sink>                sink
//	shard c <sink>                how many dead letters
//	shard d <number>              dead letter
//	shard e <number>              dead letter: sink, size, when it failed
//	shard s <lane chain ordinal>  owed: attempts, interval, due
//	shard o <lane chain ordinal>  owed: the delivery
//	shard k <key>                 mirror
//	shard t <key>                 deleted keys: the weight, to forget them by
package disk
