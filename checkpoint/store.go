package checkpoint

import (
	"context"
	"errors"
	"iter"
	"time"

	"keyhook"
)

// Store keeps the positions, the owed deliveries and the dead letters of
// shards. All methods may be called from several goroutines at once.
type Store interface {
	// Load returns the shard's checkpoint, the zero State if it has none yet.
	Load(ctx context.Context, shard uint32) (*State, error)

	// Owed yields the small record of every delivery that the shard owes,
	// ordered by lane, chain and ordinal.
	Owed(ctx context.Context, shard uint32) iter.Seq2[Owed, error]

	// Read returns deliveries of one chain in ascending ordinal, beginning with
	// the first at or after from: as many as fit into maxBytes of
	// [keyhook.Delivery.Size], and at least one if there is one.
	Read(ctx context.Context, shard, lane uint32, chain, from uint64, maxBytes int) ([]*keyhook.Delivery, error)

	// Find returns the small records of those of refs that are owed, in the order
	// of refs.
	Find(ctx context.Context, shard uint32, refs []Ref) ([]Owed, error)

	// Deliveries yields what the shard owes in full, at or after from, ordered as
	// Owed orders it.
	Deliveries(ctx context.Context, shard uint32, from Ref) iter.Seq2[Admission, error]

	// Dead yields the small record of every dead letter of the shard, in the
	// order in which they were given up.
	Dead(ctx context.Context, shard uint32) iter.Seq2[Dead, error]

	// DeadLetters yields the shard's dead letters in the order in which they
	// were given up, beginning with the first number at or after from.
	DeadLetters(ctx context.Context, shard uint32, from uint64) iter.Seq2[DeadLetter, error]

	// Commit makes c durable, all of it or none of it, before it returns nil.
	// It keeps nothing of c. A sequence that is already durable is a nil without
	// effect. ErrFenced means that a newer term owns the shard; ErrFull that
	// nothing was written and there is no room; ErrInvalid that nothing was
	// written and never will be; any other error that the outcome is unknown:
	// call Load, compare the sequence, and commit the same c again if it is
	// missing. To commit the same c again without a look is as good.
	Commit(ctx context.Context, c *Commit) error
}

// Mirror keeps what each watched key held at the shard's positions. It changes
// only by [Commit.Mirror].
type Mirror interface {
	// Lookup returns the entry of key. A missing key is a nil entry.
	Lookup(ctx context.Context, shard uint32, key []byte) (*Entry, error)

	// LookupAll returns the entries of the first of keys: as many as fit into
	// maxBytes, about, and at least one. Ascending keys are quickest.
	LookupAll(ctx context.Context, shard uint32, keys [][]byte, maxBytes int) ([]*Entry, error)

	// Entries yields the entries of r in key order, deleted ones included.
	Entries(ctx context.Context, shard uint32, r keyhook.Range) iter.Seq2[KeyEntry, error]
}

var (
	// ErrFenced means that a newer term has committed: this owner was deposed.
	ErrFenced = errors.New("the shard has a newer owner")
	// ErrFull means that a commit was refused for lack of room.
	ErrFull = errors.New("no room for a commit")
	// ErrInvalid means that a commit breaks the contract: a gap in the sequence,
	// ranges that overlap, a delivery of a lane that does not exist. It is a
	// defect of the caller, and nothing was written.
	ErrInvalid = errors.New("invalid commit")
)

// State is a shard's checkpoint without its deliveries. Ranges are sorted by
// their start, lanes by number, sinks by name. Times are in UTC.
type State struct {
	Term        uint64
	Sequence    uint64 // of the last commit; 0: the shard was never written
	NextOrdinal uint64 // above every ordinal that was ever durable
	Source      string // names this etcd in ids; empty until the first commit
	ClusterID   uint64 // of the etcd that the positions belong to
	Epoch       uint64 // the highest of a range: grows when history is found to be another one
	Ranges      []RangeState
	Lanes       []Lane
	Sinks       []SinkState
	DeadLetters map[string]int // how many, by sink

	NextDeadLetter uint64 // above the number of every dead letter that was ever durable
}

// RangeState is how far the reading of one range has come. Ranges of a shard
// are disjoint.
type RangeState struct {
	Range    keyhook.Range
	Position keyhook.Position
	// Seed is the unfinished listing that fills the mirror; nil when it is
	// complete. No change is read before that.
	Seed *Seed
	// Anchor is the newest change of the range before the position, listed or
	// read: if etcd does not hold it there, history is another one. Nil if there
	// is none, or if it was lost when the range was divided.
	Anchor *Anchor
	// Forgotten weighs all deletions that were seen in the range so far; see
	// [Entry.Weight].
	Forgotten uint64
	// Epoch of the history that the position belongs to: ids of events derive
	// from it. If it is below [State.Epoch], another range has found history to be
	// another one since, and this one is to be compared with etcd.
	Epoch uint64
	// Repair is the unfinished comparison of the mirror with etcd, after history
	// could not be read on; nil when there is none. No change is read before it is
	// complete.
	Repair *Repair
}

// Repair is a comparison of the mirror with etcd at one revision, in key order.
// Differences are synthetic changes, and change the mirror in the same commit,
// so that a comparison which begins again finds only what is left.
type Repair struct {
	Reason   keyhook.GapReason
	From     int64     // the first revision that was not read
	At       time.Time // when the gap was noticed
	Revision int64     // at which etcd is compared; 0: not chosen yet
	Cursor   []byte    // the first key that was not compared yet
	// Resume: the position can still be read from, and stays as it is.
	Resume bool
	// Whole: history is another one, or may be. So values are compared as well,
	// and every difference counts, not only what is newer.
	Whole bool
	// Fill: the listing that was to fill the mirror is unfinished. A key that is
	// missing there and was written before From is no change, unless Emit is set.
	Fill, Emit bool
	// Suspicion: nothing is known to be wrong here, another range has a new epoch.
	// It is no gap if nothing differs.
	Suspicion bool

	Created, Changed, Deleted int // keys that differed so far
}

// Seed is a listing of a range at one revision, in key order.
type Seed struct {
	Revision int64
	Cursor   []byte // the first key that is not yet in the mirror
	Emit     bool   // whether each key is a synthetic change (start: snapshot)
}

// Anchor is a change by which a history is recognised.
type Anchor struct {
	Type      keyhook.EventType
	Key       []byte
	Revision  int64
	ValueHash uint64 // xxHash64 of the value; 0 for a Delete
	// Put is an older change that was a Put. A Delete has one if any is known: that
	// a key is gone says little of a history.
	Put *Anchor
}

// Lane is one stream of deliveries: what one send of one rule owes to one sink.
// Its number is stable.
type Lane struct {
	Number           uint32
	Rule, Send, Sink string
	// Timed is the lane of what is not owed yet, and of markers: see
	// [keyhook.Stage].
	Timed bool
}

// SinkState is what must be remembered of a sink over restarts. A commit of one
// that has nothing but a name forgets the sink.
type SinkState struct {
	Name   string
	Held   bool // the sink asked to stop (410): its deliveries stay owed
	Reason string
	Since  time.Time
	// Fingerprint is of the configuration that the hold is about: another one
	// ends it.
	Fingerprint string

	Paused      bool // by somebody, until somebody resumes it
	PausedSince time.Time
}

// Ref is where an owed delivery is kept. Chain tells the keys of a lane apart:
// deliveries of one chain go in the order of their ordinals.
type Ref struct {
	Lane    uint32
	Chain   uint64
	Ordinal uint64
}

// Owed is the small record of an owed delivery: all that is needed to plan.
type Owed struct {
	Ref
	Admitted time.Time
	Retry    keyhook.Retry
}

// Admission is a delivery that has become owed, with its place.
type Admission struct {
	Lane     uint32
	Chain    uint64
	Delivery *keyhook.Delivery // carries ordinal, admission time and retry state
}

// DeadLetter is a dead letter with its number. Numbers ascend in the order in
// which deliveries were given up.
type DeadLetter struct {
	Number uint64
	keyhook.DeadLetter
}

// Dead is the small record of a dead letter: all that is needed to count it
// and to know when it is to go.
type Dead struct {
	Number   uint64
	Sink     string
	FailedAt time.Time
	Size     int64 // of the delivery, in bytes; see [keyhook.Delivery.Size]
}

// Dead returns the small record of d.
func (d *DeadLetter) Dead() Dead {
	return Dead{Number: d.Number, Sink: d.Delivery.Sink, FailedAt: d.FailedAt, Size: int64(d.Delivery.Size())}
}

// Entry is what the mirror knows of one key.
type Entry struct {
	keyhook.KeyValue // of a deleted key: what it last held
	Deleted          bool
	// Weight is [RangeState.Forgotten] right after the deletion. The value of a
	// deleted key is remembered until further deletions of
	// [MaxRemembered] bytes have been seen: a rule that depends on the order of
	// changes only, so that evaluating them again finds the same.
	Weight uint64
}

// Remembered reports whether e still counts at [RangeState.Forgotten] of its
// range: whoever looks a deleted key up must treat it as missing if it does
// not, because a backend removes such entries at its leisure.
func (e *Entry) Remembered(forgotten uint64) bool {
	return !e.Deleted || forgotten < e.Weight+MaxRemembered
}

// MaxRemembered bounds the last values of deleted keys, in bytes a range.
const MaxRemembered = 64 << 20

// KeyEntry is an entry with its key.
type KeyEntry struct {
	Key []byte
	Entry
}

// MirrorChange sets the entry of a key; a nil entry removes it.
type MirrorChange struct {
	Key   []byte
	Entry *Entry
}

// Commit is one step of a shard's checkpoint. What it does not mention stays as
// it is. Within a commit, what is dropped goes first, and what is settled last.
type Commit struct {
	Shard       uint32
	Term        uint64
	Sequence    uint64 // one more than the last
	NextOrdinal uint64 // one that is lower than the last has no effect

	Identity *Identity // set when it changes
	Ranges   []RangeState
	// DropRanges removes ranges that are no longer watched, before Ranges are
	// set, with the part of the mirror that no range covers afterwards.
	DropRanges []keyhook.Range
	Mirror     []MirrorChange // in order: of several changes of a key the last counts

	Lanes     []Lane   // new ones, and those that have other names
	DropLanes []uint32 // with all that they still owe
	Admitted  []Admission
	Retried   []Owed       // replaces what is remembered of deliveries that are owed
	Settled   []Ref        // removed: delivered, superseded or dead
	Dead      []DeadLetter // in ascending order, from State.NextDeadLetter
	// DropDead removes dead letters that were replayed, purged or have expired,
	// last of all. Numbers of which there is no dead letter are passed over.
	DropDead []uint64
	Sinks    []SinkState
}

// Identity names the history that a shard follows.
type Identity struct {
	Source    string
	ClusterID uint64
	Epoch     uint64
}
