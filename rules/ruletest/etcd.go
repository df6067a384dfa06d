package ruletest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyhook"
)

// etcd is a model of a store: what its changes look like to a watcher. It has no
// clock; whoever drives it says when a lease lapses.
type etcd struct {
	revision int64
	keys     map[string]*keyhook.KeyValue
	deleted  map[string]*keyhook.KeyValue // what deleted keys held last
	leases   map[int64]bool
}

func newEtcd() *etcd {
	return &etcd{
		revision: 1, // of a store that was never written to
		keys:     make(map[string]*keyhook.KeyValue),
		deleted:  make(map[string]*keyhook.KeyValue),
		leases:   make(map[int64]bool),
	}
}

// operation is one operation of a transaction.
type operation struct {
	kind  operationKind
	key   string // or the prefix
	value []byte
	lease int64 // of a put; 0: none
}

type operationKind uint8

const (
	opPut operationKind = iota
	opDelete
	opDeletePrefix
)

func (o operation) covers(key string) bool {
	if o.kind == opDeletePrefix {
		return strings.HasPrefix(key, o.key)
	}
	return o.key == key
}

var (
	errDuplicateKey  = errors.New("etcd refuses a transaction that writes a key twice, or writes and deletes it")
	errLeaseNotFound = errors.New("there is no such lease")
	errEmptyKey      = errors.New("a key must not be empty")
)

// txn carries out operations in one revision and returns the changes, in order.
// A transaction that changes nothing has no revision. An error leaves the store
// as it was.
func (e *etcd) txn(ops []operation, now time.Time) ([]*keyhook.Event, error) {
	if err := e.check(ops); err != nil {
		return nil, err
	}
	rev := e.revision + 1
	var events []*keyhook.Event
	for _, o := range ops {
		switch o.kind {
		case opPut:
			events = append(events, e.put(o, rev, now))
		default:
			for _, key := range e.covered(o) {
				events = append(events, e.delete(key, rev, now))
			}
		}
	}
	if len(events) > 0 {
		e.revision = rev
	}
	return events, nil
}

// check refuses what etcd refuses.
func (e *etcd) check(ops []operation) error {
	for i, o := range ops {
		if o.key == "" && o.kind != opDeletePrefix {
			return errEmptyKey
		}
		if o.kind != opPut {
			continue
		}
		if o.lease != 0 && !e.leases[o.lease] {
			return fmt.Errorf("put %s: %w", o.key, errLeaseNotFound)
		}
		for j, other := range ops {
			if i != j && other.covers(o.key) {
				return fmt.Errorf("%s: %w", o.key, errDuplicateKey)
			}
		}
	}
	return nil
}

func (e *etcd) put(o operation, rev int64, now time.Time) *keyhook.Event {
	after := &keyhook.KeyValue{Value: o.value, Revision: rev, CreateRevision: rev, Version: 1, Lease: o.lease}
	before := e.keys[o.key]
	if before != nil {
		after.CreateRevision, after.Version = before.CreateRevision, before.Version+1
	}
	ev := &keyhook.Event{
		Type: keyhook.Put, Key: []byte(o.key), Value: o.value, Time: now,
		Revision: rev, CreateRevision: after.CreateRevision, Version: after.Version, Lease: after.Lease,
		Prev: before, Last: before,
	}
	if before == nil {
		ev.Last = e.deleted[o.key]
	}
	e.keys[o.key] = after
	delete(e.deleted, o.key)
	return ev
}

func (e *etcd) delete(key string, rev int64, now time.Time) *keyhook.Event {
	before := e.keys[key]
	delete(e.keys, key)
	e.deleted[key] = before
	return &keyhook.Event{Type: keyhook.Delete, Key: []byte(key), Time: now, Revision: rev, Prev: before, Last: before}
}

// covered returns the keys that a deletion finds, in order.
func (e *etcd) covered(o operation) []string {
	var keys []string
	for key := range e.keys {
		if o.covers(key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// grant makes a lease.
func (e *etcd) grant(lease int64) { e.leases[lease] = true }

// revoke ends a lease: all of its keys go, in one revision and in order.
func (e *etcd) revoke(lease int64, now time.Time) []*keyhook.Event {
	delete(e.leases, lease)
	var keys []string
	for key, kv := range e.keys {
		if kv.Lease == lease {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	e.revision++
	events := make([]*keyhook.Event, 0, len(keys))
	for _, key := range keys {
		events = append(events, e.delete(key, e.revision, now))
	}
	return events
}
