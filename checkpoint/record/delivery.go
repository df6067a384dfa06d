package record

import (
	"bytes"
	"errors"
	"time"

	"keyhook"
)

type deliveryRecord struct {
	ID        string         `cbor:"1,keyasint"`
	Rule      string         `cbor:"2,keyasint,omitempty"`
	Send      string         `cbor:"3,keyasint,omitempty"`
	Sink      string         `cbor:"4,keyasint,omitempty"`
	Order     uint8          `cbor:"5,keyasint,omitempty"`
	OnFailure uint8          `cbor:"6,keyasint,omitempty"`
	Event     *eventRecord   `cbor:"7,keyasint,omitempty"`
	Type      string         `cbor:"8,keyasint,omitempty"` // of the content
	Headers   []headerRecord `cbor:"9,keyasint,omitempty"`
	Body      []byte         `cbor:"10,keyasint,omitempty"`
	Subject   string         `cbor:"11,keyasint,omitempty"`
	Rejected  *rejectRecord  `cbor:"12,keyasint,omitempty"`
	Ordinal   uint64         `cbor:"13,keyasint,omitempty"`
	Admitted  int64          `cbor:"14,keyasint,omitempty"`
	Attempts  int            `cbor:"15,keyasint,omitempty"`
	Interval  int64          `cbor:"16,keyasint,omitempty"`
	Due       int64          `cbor:"17,keyasint,omitempty"`
	Error     string         `cbor:"18,keyasint,omitempty"`
	Stage     uint8          `cbor:"19,keyasint,omitempty"`
	Chain     []byte         `cbor:"20,keyasint,omitempty"`
	For       int64          `cbor:"21,keyasint,omitempty"`
	Every     int64          `cbor:"22,keyasint,omitempty"`
	Group     []*eventRecord `cbor:"23,keyasint,omitempty"` // behind the first, which is Event
	Grouped   bool           `cbor:"24,keyasint,omitempty"`
}

type headerRecord struct {
	_     struct{} `cbor:",toarray"`
	Name  string
	Value string
}

type rejectRecord struct {
	Reason string `cbor:"1,keyasint"`
	Error  string `cbor:"2,keyasint,omitempty"`
}

type eventRecord struct {
	Type           uint8           `cbor:"1,keyasint"`
	Key            []byte          `cbor:"2,keyasint,omitempty"`
	Value          []byte          `cbor:"3,keyasint,omitempty"`
	Revision       int64           `cbor:"4,keyasint"`
	CreateRevision int64           `cbor:"5,keyasint,omitempty"`
	Version        int64           `cbor:"6,keyasint,omitempty"`
	Lease          int64           `cbor:"7,keyasint,omitempty"`
	Occurrence     int             `cbor:"8,keyasint,omitempty"`
	Time           int64           `cbor:"9,keyasint,omitempty"`
	Synthetic      bool            `cbor:"10,keyasint,omitempty"`
	Prev           *keyValueRecord `cbor:"11,keyasint,omitempty"`
	Last           *keyValueRecord `cbor:"12,keyasint,omitempty"`
	LastIsPrev     bool            `cbor:"13,keyasint,omitempty"` // mostly they are one, and held once
}

type keyValueRecord struct {
	Value          []byte `cbor:"1,keyasint,omitempty"`
	Revision       int64  `cbor:"2,keyasint,omitempty"`
	CreateRevision int64  `cbor:"3,keyasint,omitempty"`
	Version        int64  `cbor:"4,keyasint,omitempty"`
	Lease          int64  `cbor:"5,keyasint,omitempty"`
}

type deadLetterRecord struct {
	Delivery *deliveryRecord `cbor:"1,keyasint"`
	Reason   string          `cbor:"2,keyasint,omitempty"`
	Error    string          `cbor:"3,keyasint,omitempty"`
	FailedAt int64           `cbor:"4,keyasint,omitempty"`
}

// EncodeDelivery appends d, its ordinal and retry state included.
func EncodeDelivery(buf *bytes.Buffer, d *keyhook.Delivery) error {
	return encode(buf, fromDelivery(d))
}

// DecodeDelivery returns what [EncodeDelivery] wrote.
func DecodeDelivery(b []byte) (*keyhook.Delivery, error) {
	var rec deliveryRecord
	if err := decode("delivery", b, &rec); err != nil {
		return nil, err
	}
	return rec.delivery(), nil
}

// EncodeDeadLetter appends d without its number, which is its place.
func EncodeDeadLetter(buf *bytes.Buffer, d *keyhook.DeadLetter) error {
	return encode(buf, &deadLetterRecord{
		Delivery: fromDelivery(d.Delivery), Reason: string(d.Reason), Error: d.Error, FailedAt: nanos(d.FailedAt),
	})
}

// DecodeDeadLetter returns what [EncodeDeadLetter] wrote.
func DecodeDeadLetter(b []byte) (keyhook.DeadLetter, error) {
	var rec deadLetterRecord
	if err := decode("dead letter", b, &rec); err != nil {
		return keyhook.DeadLetter{}, err
	}
	if rec.Delivery == nil {
		return keyhook.DeadLetter{}, malformed("dead letter", errors.New("it has no delivery"))
	}
	return keyhook.DeadLetter{
		Delivery: rec.Delivery.delivery(), Reason: keyhook.Reason(rec.Reason), Error: rec.Error, FailedAt: moment(rec.FailedAt),
	}, nil
}

func fromDelivery(d *keyhook.Delivery) *deliveryRecord {
	rec := &deliveryRecord{
		ID: d.ID, Rule: d.Rule, Send: d.Send, Sink: d.Sink,
		Order: uint8(d.Order), OnFailure: uint8(d.OnFailure),
		Event: fromEvent(d.Event),
		Type:  d.Message.ContentType, Body: d.Message.Body, Subject: d.Message.Subject,
		Ordinal: d.Ordinal, Admitted: nanos(d.Admitted),
		Attempts: d.Retry.Attempts, Interval: int64(d.Retry.Interval), Due: nanos(d.Retry.Due), Error: d.Retry.Error,
		Stage: uint8(d.Retry.Stage), Chain: d.Chain, For: int64(d.Timing.For), Every: int64(d.Timing.Every),
		Grouped: len(d.Group) > 0,
	}
	for _, e := range d.Group[min(1, len(d.Group)):] {
		rec.Group = append(rec.Group, fromEvent(e))
	}
	if len(d.Message.Headers) > 0 {
		rec.Headers = make([]headerRecord, len(d.Message.Headers))
		for i, h := range d.Message.Headers {
			rec.Headers[i].Name, rec.Headers[i].Value = h.Name, h.Value
		}
	}
	if r := d.Rejected; r != nil {
		rec.Rejected = &rejectRecord{Reason: string(r.Reason), Error: r.Error}
	}
	return rec
}

func (rec *deliveryRecord) delivery() *keyhook.Delivery {
	d := &keyhook.Delivery{
		ID: rec.ID, Rule: rec.Rule, Send: rec.Send, Sink: rec.Sink,
		Order: keyhook.Order(rec.Order), OnFailure: keyhook.OnFailure(rec.OnFailure),
		Event:   rec.Event.event(),
		Message: keyhook.Message{ContentType: rec.Type, Body: rec.Body, Subject: rec.Subject},
		Ordinal: rec.Ordinal, Admitted: moment(rec.Admitted),
		Retry: keyhook.Retry{
			Attempts: rec.Attempts, Interval: time.Duration(rec.Interval), Due: moment(rec.Due), Error: rec.Error, Stage: keyhook.Stage(rec.Stage),
		},
		Chain: rec.Chain, Timing: keyhook.Timing{For: time.Duration(rec.For), Every: time.Duration(rec.Every)},
	}
	if rec.Grouped {
		d.Group = []*keyhook.Event{d.Event}
		for _, e := range rec.Group {
			d.Group = append(d.Group, e.event())
		}
	}
	if len(rec.Headers) > 0 {
		d.Message.Headers = make([]keyhook.Header, len(rec.Headers))
		for i, h := range rec.Headers {
			d.Message.Headers[i] = keyhook.Header{Name: h.Name, Value: h.Value}
		}
	}
	if r := rec.Rejected; r != nil {
		d.Rejected = &keyhook.Rejection{Reason: keyhook.Reason(r.Reason), Error: r.Error}
	}
	return d
}

func fromEvent(e *keyhook.Event) *eventRecord {
	if e == nil {
		return nil
	}
	rec := &eventRecord{
		Type: uint8(e.Type), Key: e.Key, Value: e.Value,
		Revision: e.Revision, CreateRevision: e.CreateRevision, Version: e.Version, Lease: e.Lease,
		Occurrence: e.Occurrence, Time: nanos(e.Time), Synthetic: e.Synthetic,
		Prev: fromKeyValue(e.Prev),
	}
	if e.Last != nil && e.Last == e.Prev {
		rec.LastIsPrev = true
	} else {
		rec.Last = fromKeyValue(e.Last)
	}
	return rec
}

func (rec *eventRecord) event() *keyhook.Event {
	if rec == nil {
		return nil
	}
	e := &keyhook.Event{
		Type: keyhook.EventType(rec.Type), Key: rec.Key, Value: rec.Value,
		Revision: rec.Revision, CreateRevision: rec.CreateRevision, Version: rec.Version, Lease: rec.Lease,
		Occurrence: rec.Occurrence, Time: moment(rec.Time), Synthetic: rec.Synthetic,
		Prev: rec.Prev.keyValue(), Last: rec.Last.keyValue(),
	}
	if rec.LastIsPrev {
		e.Last = e.Prev
	}
	return e
}

func fromKeyValue(kv *keyhook.KeyValue) *keyValueRecord {
	return (*keyValueRecord)(kv)
}

func (rec *keyValueRecord) keyValue() *keyhook.KeyValue {
	return (*keyhook.KeyValue)(rec)
}
