package disk

import (
	"encoding/binary"

	"keyhook"
	"keyhook/checkpoint"
)

// The kinds of keys, behind the shard; see the package documentation.
const (
	kindHead    = 'h'
	kindRange   = 'r'
	kindLane    = 'l'
	kindSink    = 'x'
	kindCount   = 'c'
	kindDead    = 'd'
	kindBuried  = 'e'
	kindOwed    = 's'
	kindPayload = 'o'
	kindMirror  = 'k'
	kindDeleted = 't'
)

const (
	prefixLen = 4 + 1
	refLen    = 4 + 8 + 8
)

func appendPrefix(b []byte, shard uint32, kind byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, shard), kind)
}

// named returns a key of a kind that is followed by a name or a key.
func named[T string | []byte](b []byte, shard uint32, kind byte, name T) []byte {
	return append(appendPrefix(b[:0], shard, kind), name...)
}

func numbered(b []byte, shard uint32, kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendPrefix(b[:0], shard, kind), n)
}

func laneKey(b []byte, shard uint32, kind byte, lane uint32) []byte {
	return binary.BigEndian.AppendUint32(appendPrefix(b[:0], shard, kind), lane)
}

func refKey(b []byte, shard uint32, kind byte, ref checkpoint.Ref) []byte {
	b = laneKey(b, shard, kind, ref.Lane)
	b = binary.BigEndian.AppendUint64(b, ref.Chain)
	return binary.BigEndian.AppendUint64(b, ref.Ordinal)
}

// parseRef reads the place out of a key that refKey made.
func parseRef(key []byte) (checkpoint.Ref, bool) {
	if len(key) != prefixLen+refLen {
		return checkpoint.Ref{}, false
	}
	key = key[prefixLen:]
	return checkpoint.Ref{
		Lane: binary.BigEndian.Uint32(key), Chain: binary.BigEndian.Uint64(key[4:]), Ordinal: binary.BigEndian.Uint64(key[12:]),
	}, true
}

// bounds is an interval of keys of the database.
type bounds struct {
	lower, upper []byte
}

// all returns the bounds of all keys of a kind.
func all(shard uint32, kind byte) bounds {
	return bounds{appendPrefix(nil, shard, kind), appendPrefix(nil, shard, kind+1)}
}

// bounded returns the bounds of all that is owed from a place on.
func bounded(shard uint32, kind byte, from checkpoint.Ref) bounds {
	b := all(shard, kind)
	b.lower = refKey(nil, shard, kind, from)
	return b
}

// within returns the bounds of the keys of r.
func within(shard uint32, kind byte, r keyhook.Range) bounds {
	b := all(shard, kind)
	b.lower = append(b.lower, r.Start...)
	if len(r.End) > 0 {
		b.upper = named(nil, shard, kind, r.End)
	}
	return b
}

// ofLane returns the bounds of all that a lane owes.
func ofLane(shard uint32, kind byte, lane uint32) bounds {
	return bounds{laneKey(nil, shard, kind, lane), after(laneKey(nil, shard, kind, lane))}
}

// ofChain returns the bounds of a chain's deliveries from an ordinal on.
func ofChain(shard uint32, kind byte, from checkpoint.Ref) bounds {
	lower := refKey(nil, shard, kind, from)
	return bounds{lower, after(append([]byte(nil), lower[:len(lower)-8]...))}
}

// after returns the first key behind all that begin with prefix. The shard and
// the kind are a part of it, and the kind is never the last byte there is.
func after(prefix []byte) []byte { return keyhook.Prefix(prefix).End }
