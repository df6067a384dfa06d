// Package robustness is keyhook's counterpart of etcd's robustness tests: a
// cluster of three real etcd processes that is written to all the time, keyhook
// as it is released behind a proxy for each member, and webhooks that fail. While
// all of this runs, members are killed, suspended and deposed, connections cut,
// delayed and swallowed, history compacted and rolled back, and keyhook killed.
//
//	writers ──▶ etcd m0 ◀─ proxy ◀─┐
//	            etcd m1 ◀─ proxy ◀─┼─ keyhook ──▶ receiver (fails, hangs, resets)
//	            etcd m2 ◀─ proxy ◀─┘     │           │
//	               │                     │ positions │ attempts
//	               ▼                     ▼           ▼
//	           databases ───────────▶ oracle ◀───────┘
//
// What must have arrived is told by etcd's databases: one is kept before each
// compaction, and those of all members when the cluster is restored and at the
// end. No watch is trusted.
//
// # What is checked
//
// The words are those of etcd's guarantees for a watch, fitted to deliveries that
// are made at least once:
//
//	Ordered       The changes of a key are tried in the order of etcd's history: none
//	              before the ones ahead of it have succeeded, and none again after one
//	              behind it was tried, unless keyhook was killed in between.
//	Unique        A change has one id, made as documented, and an id one change. Without
//	              a kill nothing succeeds twice, whatever etcd and the network do.
//	Atomic        A revision arrives whole, with every change that it made, however many
//	              batches, commits, kills and connections it was spread over.
//	Resumable     After a kill only what succeeded shortly before it is repeated; after
//	              anything else, nothing.
//	Reliable      Nothing is missing. Where keyhook says that it repaired a gap, changes
//	              within may be missing, but then the receiver knows of every key what
//	              etcd held at the gap's end, before it hears of anything behind it. A
//	              gap must have had a cause: a compaction behind keyhook's position, or a
//	              restore.
//	Bookmarkable  At any moment, what lies behind the stated position and has not arrived
//	              is stated as owed. Positions never pass etcd's revision, and go back only
//	              with a kill or a restore. At the end all of them reach etcd's revision,
//	              that of a range where nothing happens too.
//
// And Faithful, which etcd takes for granted: nothing arrives that etcd did not
// hold, with its value, version, lease and what the key held before.
//
// # How it runs
//
// A scenario says which faults may be drawn; a plan is drawn from a seed alone.
// KEYHOOK_TEST_SEED repeats one. What happens when depends on the machine all the
// same, so a repeated plan need not fail again: a failure therefore leaves its
// story, the attempts, the databases and all logs in a directory that it names.
//
// `go test ./...` runs one mixed scenario; `make robustness` runs all of them, and
// the mixed one against every version of etcd.
package robustness
