package checkpointtest

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"testing"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

// Backend is a store with its mirror.
type Backend interface {
	checkpoint.Store
	checkpoint.Mirror
}

// Place is where a backend keeps what it keeps.
type Place interface {
	// Open returns the backend of the place. It closes the one that it has
	// returned before: what that has acknowledged must be there.
	Open(t *testing.T) Backend
}

// Run holds a backend with a mirror against the contracts. Create returns a new
// place, with nothing in it.
func Run(t *testing.T, create func(t *testing.T) Place) {
	RunStore(t, create)
	RunMirror(t, create)
}

// RunStore holds a backend against [checkpoint.Store].
func RunStore(t *testing.T, create func(t *testing.T) Place) {
	run(t, create, slices.Concat(storeStories, deadLetterStories))
}

// RunMirror holds a backend against [checkpoint.Mirror].
func RunMirror(t *testing.T, create func(t *testing.T) Place) { run(t, create, mirrorStories) }

type story struct {
	name string
	tell func(*teller)
}

func run(t *testing.T, create func(t *testing.T) Place, stories []story) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			place := create(t)
			s.tell(&teller{T: t, place: place, b: place.Open(t)})
		})
	}
}

// teller is a test with a backend, at most one commit at a time.
type teller struct {
	*testing.T
	place    Place
	b        Backend
	sequence uint64
}

// commit commits c as the next of shard 0 and term 1, unless c says otherwise,
// and expects it to succeed.
func (t *teller) commit(c checkpoint.Commit) {
	t.Helper()
	if err := t.try(&c); err != nil {
		t.Fatalf("commit %d: %v", c.Sequence, err)
	}
}

func (t *teller) try(c *checkpoint.Commit) error {
	t.Helper()
	if c.Term == 0 {
		c.Term = 1
	}
	if c.Sequence == 0 {
		t.sequence++
		c.Sequence = t.sequence
	}
	return t.b.Commit(t.Context(), c)
}

// everAfter checks now, and once more after a restart.
func (t *teller) everAfter(check func()) {
	t.Helper()
	check()
	t.restart()
	check()
}

func (t *teller) restart() {
	t.Helper()
	t.b = t.place.Open(t.T)
}

func (t *teller) load(shard uint32) *checkpoint.State {
	t.Helper()
	s, err := t.b.Load(t.Context(), shard)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return s
}

func (t *teller) owed(shard uint32) []checkpoint.Owed {
	t.Helper()
	return collect(t, t.b.Owed(t.Context(), shard))
}

func (t *teller) dead(shard uint32) []checkpoint.DeadLetter {
	t.Helper()
	return collect(t, t.b.DeadLetters(t.Context(), shard, 0))
}

// read returns the ids of deliveries of lane 1.
func (t *teller) read(chain, from uint64, maxBytes int) (ids []string) {
	t.Helper()
	ds, err := t.b.Read(t.Context(), 0, 1, chain, from, maxBytes)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	for _, d := range ds {
		ids = append(ids, d.ID)
	}
	return ids
}

func (t *teller) lookup(shard uint32, key string) *checkpoint.Entry {
	t.Helper()
	e, err := t.b.Lookup(t.Context(), shard, []byte(key))
	if err != nil {
		t.Fatalf("lookup: %v", err)
	}
	return e
}

// lookupAll returns the values of the entries that are found; "-" for none.
func (t *teller) lookupAll(shard uint32, maxBytes int, keys ...string) (values []string) {
	t.Helper()
	var all [][]byte
	for _, key := range keys {
		all = append(all, []byte(key))
	}
	found, err := t.b.LookupAll(t.Context(), shard, all, maxBytes)
	if err != nil {
		t.Fatalf("look up all: %v", err)
	}
	for _, e := range found {
		if e == nil {
			values = append(values, "-")
			continue
		}
		values = append(values, string(e.Value))
	}
	return values
}

// keys returns the keys of r in the mirror.
func (t *teller) keys(shard uint32, r keyhook.Range) (keys []string) {
	t.Helper()
	for _, e := range collect(t, t.b.Entries(t.Context(), shard, r)) {
		keys = append(keys, string(e.Key))
	}
	return keys
}

func (t *teller) same(what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\ngot  %+v\nwant %+v", what, got, want)
	}
}

func collect[T any](t *teller, seq iter.Seq2[T, error]) (all []T) {
	t.Helper()
	for item, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, item)
	}
	return all
}

var everything = keyhook.Range{}

var noon = time.Date(2026, 5, 17, 12, 0, 0, 123456789, time.UTC)

// lane1 is a commit that makes lane 1, with ordinals below 1000.
func lane1() checkpoint.Commit {
	return checkpoint.Commit{
		NextOrdinal: 1000,
		Lanes:       []checkpoint.Lane{{Number: 1, Rule: "failover", Send: "page", Sink: "pager"}},
	}
}

// admission is a delivery of lane 1 that was never tried.
func admission(chain, ordinal uint64) checkpoint.Admission {
	return checkpoint.Admission{Lane: 1, Chain: chain, Delivery: delivery(ordinal)}
}

func delivery(ordinal uint64) *keyhook.Delivery {
	prev := &keyhook.KeyValue{Value: []byte("old"), Revision: 9, CreateRevision: 3, Version: 2}
	return &keyhook.Delivery{
		ID: fmt.Sprintf("%d-0123456789abcdef0123456789abcdef", ordinal), Rule: "failover", Send: "page", Sink: "pager",
		Event: &keyhook.Event{
			Type: keyhook.Put, Key: []byte("/service/a\x00\xff"), Value: []byte("new"), Revision: int64(ordinal),
			CreateRevision: 3, Version: 3, Lease: 77, Occurrence: 1, Time: noon, Prev: prev, Last: prev,
		},
		Message: keyhook.Message{
			ContentType: "text/plain", Headers: []keyhook.Header{{Name: "X-Key", Value: "a"}}, Body: []byte("hello"), Subject: "s",
		},
		Ordinal: ordinal, Admitted: noon,
	}
}

func ref(chain, ordinal uint64) checkpoint.Ref {
	return checkpoint.Ref{Lane: 1, Chain: chain, Ordinal: ordinal}
}

func put(key, value string, revision int64) checkpoint.MirrorChange {
	return checkpoint.MirrorChange{Key: []byte(key), Entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{
		Value: []byte(value), Revision: revision, CreateRevision: revision, Version: 1,
	}}}
}

func deleted(key, value string, revision int64, weight uint64) checkpoint.MirrorChange {
	c := put(key, value, revision)
	c.Entry.Deleted, c.Entry.Weight = true, weight
	return c
}

func between(start, end string) keyhook.Range {
	r := keyhook.Range{Start: []byte(start), End: []byte(end)}
	if end == "" {
		r.End = nil
	}
	return r
}

func at(r keyhook.Range, next int64) checkpoint.RangeState {
	return checkpoint.RangeState{Range: r, Position: keyhook.Position{Next: next}}
}

// ended returns a context that is over.
func ended(t *teller) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
