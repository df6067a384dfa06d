package record

import (
	"bytes"
	"time"

	"github.com/fxamacker/cbor/v2"

	"keyhook"
	"keyhook/checkpoint"
)

var (
	encoding = must(cbor.EncOptions{Sort: cbor.SortNone}.UserBufferEncMode())
	decoding = must(cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid, MaxNestedLevels: 16}.DecMode())
)

// must is for options that are constants: a failure shows in every test.
func must[T any](mode T, err error) T {
	if err != nil {
		panic(err)
	}
	return mode
}

func encode(buf *bytes.Buffer, v any) error {
	buf.WriteByte(version)
	return encoding.MarshalToBuffer(v, buf)
}

func decode(kind string, b []byte, into any) error {
	body, err := open(kind, b)
	if err != nil {
		return err
	}
	if err := decoding.Unmarshal(body, into); err != nil {
		return malformed(kind, err)
	}
	return nil
}

type headRecord struct {
	Term           uint64 `cbor:"1,keyasint"`
	Sequence       uint64 `cbor:"2,keyasint"`
	NextOrdinal    uint64 `cbor:"3,keyasint"`
	NextDeadLetter uint64 `cbor:"4,keyasint,omitempty"`
	Source         string `cbor:"5,keyasint,omitempty"`
	ClusterID      uint64 `cbor:"6,keyasint,omitempty"`
	Epoch          uint64 `cbor:"7,keyasint,omitempty"`
}

// EncodeHead appends the part of s that every commit changes: term, sequence,
// ordinals and identity.
func EncodeHead(buf *bytes.Buffer, s *checkpoint.State) error {
	return encode(buf, &headRecord{
		Term: s.Term, Sequence: s.Sequence, NextOrdinal: s.NextOrdinal, NextDeadLetter: s.NextDeadLetter,
		Source: s.Source, ClusterID: s.ClusterID, Epoch: s.Epoch,
	})
}

// DecodeHead sets in s what [EncodeHead] wrote.
func DecodeHead(b []byte, s *checkpoint.State) error {
	var r headRecord
	if err := decode("head", b, &r); err != nil {
		return err
	}
	s.Term, s.Sequence, s.NextOrdinal, s.NextDeadLetter = r.Term, r.Sequence, r.NextOrdinal, r.NextDeadLetter
	s.Source, s.ClusterID, s.Epoch = r.Source, r.ClusterID, r.Epoch
	return nil
}

type rangeRecord struct {
	Start     []byte        `cbor:"1,keyasint,omitempty"`
	End       []byte        `cbor:"2,keyasint,omitempty"`
	Next      int64         `cbor:"3,keyasint"`
	Admitted  int           `cbor:"4,keyasint,omitempty"`
	Seed      *seedRecord   `cbor:"5,keyasint,omitempty"`
	Anchor    *anchorRecord `cbor:"6,keyasint,omitempty"`
	Forgotten uint64        `cbor:"7,keyasint,omitempty"`
	Epoch     uint64        `cbor:"8,keyasint,omitempty"`
	Repair    *repairRecord `cbor:"9,keyasint,omitempty"`
}

type repairRecord struct {
	Reason   string `cbor:"1,keyasint"`
	From     int64  `cbor:"2,keyasint"`
	At       int64  `cbor:"3,keyasint,omitempty"`
	Revision int64  `cbor:"4,keyasint,omitempty"`
	Cursor   []byte `cbor:"5,keyasint,omitempty"`

	Resume    bool `cbor:"6,keyasint,omitempty"`
	Whole     bool `cbor:"7,keyasint,omitempty"`
	Fill      bool `cbor:"8,keyasint,omitempty"`
	Emit      bool `cbor:"9,keyasint,omitempty"`
	Suspicion bool `cbor:"10,keyasint,omitempty"`

	Created int `cbor:"11,keyasint,omitempty"`
	Changed int `cbor:"12,keyasint,omitempty"`
	Deleted int `cbor:"13,keyasint,omitempty"`
}

type seedRecord struct {
	Revision int64  `cbor:"1,keyasint"`
	Cursor   []byte `cbor:"2,keyasint,omitempty"`
	Emit     bool   `cbor:"3,keyasint,omitempty"`
}

type anchorRecord struct {
	Type      uint8  `cbor:"1,keyasint"`
	Key       []byte `cbor:"2,keyasint,omitempty"`
	Revision  int64  `cbor:"3,keyasint"`
	ValueHash uint64 `cbor:"4,keyasint,omitempty"`

	Put *anchorRecord `cbor:"5,keyasint,omitempty"`
}

func anchorRecordOf(a *checkpoint.Anchor) *anchorRecord {
	if a == nil {
		return nil
	}
	return &anchorRecord{Type: uint8(a.Type), Key: a.Key, Revision: a.Revision, ValueHash: a.ValueHash, Put: anchorRecordOf(a.Put)}
}

func (rec *anchorRecord) anchor() *checkpoint.Anchor {
	if rec == nil {
		return nil
	}
	return &checkpoint.Anchor{
		Type: keyhook.EventType(rec.Type), Key: rec.Key, Revision: rec.Revision, ValueHash: rec.ValueHash, Put: rec.Put.anchor(),
	}
}

// EncodeRange appends r.
func EncodeRange(buf *bytes.Buffer, r *checkpoint.RangeState) error {
	rec := rangeRecord{
		Start: r.Range.Start, End: r.Range.End,
		Next: r.Position.Next, Admitted: r.Position.Admitted, Forgotten: r.Forgotten, Epoch: r.Epoch,
	}
	if p := r.Repair; p != nil {
		rec.Repair = &repairRecord{
			Reason: string(p.Reason), From: p.From, At: nanos(p.At), Revision: p.Revision, Cursor: p.Cursor,
			Resume: p.Resume, Whole: p.Whole, Fill: p.Fill, Emit: p.Emit, Suspicion: p.Suspicion,
			Created: p.Created, Changed: p.Changed, Deleted: p.Deleted,
		}
	}
	if s := r.Seed; s != nil {
		rec.Seed = &seedRecord{Revision: s.Revision, Cursor: s.Cursor, Emit: s.Emit}
	}
	rec.Anchor = anchorRecordOf(r.Anchor)
	return encode(buf, &rec)
}

// DecodeRange returns what [EncodeRange] wrote.
func DecodeRange(b []byte) (checkpoint.RangeState, error) {
	var rec rangeRecord
	if err := decode("range", b, &rec); err != nil {
		return checkpoint.RangeState{}, err
	}
	r := checkpoint.RangeState{
		Range:     keyhook.Range{Start: rec.Start, End: rec.End},
		Position:  keyhook.Position{Next: rec.Next, Admitted: rec.Admitted},
		Forgotten: rec.Forgotten, Epoch: rec.Epoch,
	}
	if p := rec.Repair; p != nil {
		r.Repair = &checkpoint.Repair{
			Reason: keyhook.GapReason(p.Reason), From: p.From, At: moment(p.At), Revision: p.Revision, Cursor: p.Cursor,
			Resume: p.Resume, Whole: p.Whole, Fill: p.Fill, Emit: p.Emit, Suspicion: p.Suspicion,
			Created: p.Created, Changed: p.Changed, Deleted: p.Deleted,
		}
	}
	if s := rec.Seed; s != nil {
		r.Seed = &checkpoint.Seed{Revision: s.Revision, Cursor: s.Cursor, Emit: s.Emit}
	}
	r.Anchor = rec.Anchor.anchor()
	return r, nil
}

type laneRecord struct {
	Number uint32 `cbor:"1,keyasint"`
	Rule   string `cbor:"2,keyasint,omitempty"`
	Send   string `cbor:"3,keyasint,omitempty"`
	Sink   string `cbor:"4,keyasint,omitempty"`
	Timed  bool   `cbor:"5,keyasint,omitempty"`
}

// EncodeLane appends l.
func EncodeLane(buf *bytes.Buffer, l checkpoint.Lane) error {
	return encode(buf, (*laneRecord)(&l))
}

// DecodeLane returns what [EncodeLane] wrote.
func DecodeLane(b []byte) (checkpoint.Lane, error) {
	var rec laneRecord
	err := decode("lane", b, &rec)
	return checkpoint.Lane(rec), err
}

type sinkRecord struct {
	Name   string `cbor:"1,keyasint"`
	Held   bool   `cbor:"2,keyasint,omitempty"`
	Reason string `cbor:"3,keyasint,omitempty"`
	Since  int64  `cbor:"4,keyasint,omitempty"`

	Fingerprint string `cbor:"5,keyasint,omitempty"`
	Paused      bool   `cbor:"6,keyasint,omitempty"`
	PausedSince int64  `cbor:"7,keyasint,omitempty"`
}

// EncodeSink appends s.
func EncodeSink(buf *bytes.Buffer, s checkpoint.SinkState) error {
	return encode(buf, &sinkRecord{
		Name: s.Name, Held: s.Held, Reason: s.Reason, Since: nanos(s.Since), Fingerprint: s.Fingerprint,
		Paused: s.Paused, PausedSince: nanos(s.PausedSince),
	})
}

// DecodeSink returns what [EncodeSink] wrote.
func DecodeSink(b []byte) (checkpoint.SinkState, error) {
	var rec sinkRecord
	if err := decode("sink", b, &rec); err != nil {
		return checkpoint.SinkState{}, err
	}
	return checkpoint.SinkState{
		Name: rec.Name, Held: rec.Held, Reason: rec.Reason, Since: moment(rec.Since), Fingerprint: rec.Fingerprint,
		Paused: rec.Paused, PausedSince: moment(rec.PausedSince),
	}, nil
}

// nanos returns t as records hold it; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
