package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

const entryDeleted = 1 // a flag of an entry

// AppendEntry appends e.
func AppendEntry(b []byte, e *checkpoint.Entry) []byte {
	var flags byte
	if e.Deleted {
		flags |= entryDeleted
	}
	b = append(b, version, flags)
	b = binary.AppendVarint(b, e.Revision)
	b = binary.AppendVarint(b, e.CreateRevision)
	b = binary.AppendVarint(b, e.Version)
	b = binary.AppendVarint(b, e.Lease)
	if e.Deleted {
		b = binary.AppendUvarint(b, e.Weight)
	}
	return append(b, e.Value...)
}

// DecodeEntry returns what [AppendEntry] wrote.
func DecodeEntry(b []byte) (*checkpoint.Entry, error) {
	r, err := newReader("mirror entry", b)
	if err != nil {
		return nil, err
	}
	flags := r.byte()
	e := &checkpoint.Entry{
		KeyValue: keyhook.KeyValue{
			Revision: r.varint(), CreateRevision: r.varint(), Version: r.varint(), Lease: r.varint(),
		},
		Deleted: flags&entryDeleted != 0,
	}
	if e.Deleted {
		e.Weight = r.uvarint()
	}
	if flags&^entryDeleted != 0 {
		r.fail("it has unknown flags")
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.rest) > 0 {
		e.Value = bytes.Clone(r.rest)
	}
	return e, nil
}

// AppendOwed appends o without its place. The flags are its stage: a version that
// knows of none refuses what it would send too early.
func AppendOwed(b []byte, o *checkpoint.Owed) []byte {
	b = append(b, version, byte(o.Retry.Stage))
	b = binary.AppendVarint(b, nanos(o.Admitted))
	b = binary.AppendVarint(b, int64(o.Retry.Attempts))
	b = binary.AppendVarint(b, int64(o.Retry.Interval))
	b = binary.AppendVarint(b, nanos(o.Retry.Due))
	return append(b, o.Retry.Error...)
}

// DecodeOwed returns what [AppendOwed] wrote; its place is left zero.
func DecodeOwed(b []byte) (checkpoint.Owed, error) {
	r, err := newReader("owed record", b)
	if err != nil {
		return checkpoint.Owed{}, err
	}
	stage := keyhook.Stage(r.byte())
	if !stage.Known() {
		r.fail("it has unknown flags")
	}
	o := checkpoint.Owed{Admitted: moment(r.varint())}
	o.Retry = keyhook.Retry{
		Attempts: int(r.varint()), Interval: time.Duration(r.varint()), Due: moment(r.varint()), Error: string(r.rest), Stage: stage,
	}
	if r.err != nil {
		return checkpoint.Owed{}, r.err
	}
	return o, nil
}

// AppendDead appends d without its number, which is its place.
func AppendDead(b []byte, d *checkpoint.Dead) []byte {
	b = append(b, version, 0)
	b = binary.AppendVarint(b, nanos(d.FailedAt))
	b = binary.AppendVarint(b, d.Size)
	return append(b, d.Sink...)
}

// DecodeDead returns what [AppendDead] wrote; its number is left zero.
func DecodeDead(b []byte) (checkpoint.Dead, error) {
	r, err := newReader("dead record", b)
	if err != nil {
		return checkpoint.Dead{}, err
	}
	if r.byte() != 0 {
		r.fail("it has unknown flags")
	}
	d := checkpoint.Dead{FailedAt: moment(r.varint()), Size: r.varint(), Sink: string(r.rest)}
	if r.err != nil {
		return checkpoint.Dead{}, r.err
	}
	return d, nil
}

// reader takes numbers off the front of a record. After the first failure it
// returns zeros.
type reader struct {
	kind string
	rest []byte
	err  error
}

func newReader(kind string, b []byte) (*reader, error) {
	rest, err := open(kind, b)
	return &reader{kind: kind, rest: rest}, err
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = malformed(r.kind, errors.New(why))
	}
	r.rest = nil
}

func (r *reader) byte() byte {
	if len(r.rest) == 0 {
		r.fail("it ends early")
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		r.fail("it has no number where one is due")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail("it has no number where one is due")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}
