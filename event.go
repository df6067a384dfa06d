package keyhook

import "time"

// EventType says what happened to a key.
type EventType uint8

const (
	// Put is a key created or written.
	Put EventType = iota + 1
	// Delete is a key deleted, by a request or by the expiry of its lease.
	Delete
)

// String returns the name that rules see: "PUT" or "DELETE".
func (t EventType) String() string {
	switch t {
	case Put:
		return "PUT"
	case Delete:
		return "DELETE"
	default:
		return "UNKNOWN"
	}
}

// KeyValue is what a key held at an earlier moment.
type KeyValue struct {
	Value          []byte
	Revision       int64 // mod_revision
	CreateRevision int64
	Version        int64
	Lease          int64
}

// Event is one committed change of one key. It is immutable once it has left
// the watch package, and shared between rules, deliveries and the checkpoint.
//
// Its identity is (epoch, Key, Revision, Occurrence): key and revision alone do
// not identify it, because one transaction may put and delete the same key.
type Event struct {
	Type  EventType
	Key   []byte
	Value []byte // empty for a Delete

	Revision       int64 // of the change; the last known one for a synthetic Delete
	CreateRevision int64 // 0 for a Delete
	Version        int64 // 0 for a Delete
	Lease          int64 // 0 for a Delete

	// Occurrence counts the changes of Key within Revision, from 0; it is
	// [SyntheticDelete] for a synthetic Delete.
	Occurrence int
	// Time is when keyhook received the change; etcd records none. It differs
	// when a change is read again after a crash, so no decision may depend on it.
	Time time.Time
	// Synthetic marks a change that was derived from a listing, not read from
	// etcd's history.
	Synthetic bool

	// Prev is what the key held before; nil for a key that was created.
	Prev *KeyValue
	// Last is as Prev, but also looks across a delete: for a key that is created
	// again it is what the key held before it was deleted, as long as that is
	// remembered.
	Last *KeyValue
}

// Created reports whether the key held nothing before, as far as is known: also
// true of the synthetic change of a key that was listed. It is exactly when Prev
// of a Put is absent, so that a condition may guard the one by the other.
func (e *Event) Created() bool { return e.Type == Put && e.Prev == nil }

// Size returns the bytes that e holds in memory, near enough for a budget.
func (e *Event) Size() int {
	n := len(e.Key) + len(e.Value) + eventOverhead
	if e.Prev != nil {
		n += len(e.Prev.Value) + keyValueOverhead
	}
	if e.Last != nil && e.Last != e.Prev {
		n += len(e.Last.Value) + keyValueOverhead
	}
	return n
}

const (
	eventOverhead    = 200
	keyValueOverhead = 64
)
