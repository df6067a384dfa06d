// Package record is how a checkpoint is written down: the encodings that every
// backend shares.
//
// The first byte of a record is the version of its encoding. A record of a
// newer version than this program knows is a [NewerError], never a guess; one
// that makes no sense is an [ErrMalformed]. Decoding never panics and never
// keeps its input.
//
//	┌─────────┬──────────────────────────────────────────────┐
//	│ version │ CBOR, a map with small integers as keys      │  head, range, lane, sink,
//	└─────────┴──────────────────────────────────────────────┘  delivery, dead letter
//	┌─────────┬───────┬─────────────────────┬────────────────┐
//	│ version │ flags │ numbers, as varints │ bytes          │  mirror entry, owed, dead
//	└─────────┴───────┴─────────────────────┴────────────────┘
//
// Version 1 of a CBOR record may gain fields: a reader skips those that it does
// not know, and one that is absent has its zero value. Only what would be
// misread without knowing it needs a new version.
//
// The records that are written and read by the ten thousand (an entry for every
// change, an owed or a dead record for every delivery at a start) are laid out
// by hand, which takes a seventh of the time.
//
// Times are nanoseconds since 1970 and come back in UTC. Text that is not UTF-8
// comes back unharmed.
package record
