package record

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
)

// samples returns one record of each kind with every field set.
func samples(t testing.TB) map[string][]byte {
	d := sampleDelivery()
	all := make(map[string][]byte)
	put := func(kind string, encode func(*bytes.Buffer) error) {
		var buf bytes.Buffer
		if err := encode(&buf); err != nil {
			t.Fatal(err)
		}
		all[kind] = buf.Bytes()
	}
	put("delivery", func(b *bytes.Buffer) error { return EncodeDelivery(b, d) })
	put("dead letter", func(b *bytes.Buffer) error {
		return EncodeDeadLetter(b, &keyhook.DeadLetter{Delivery: d, Reason: keyhook.ReasonMaxAge, Error: "too old", FailedAt: day.Add(time.Hour)})
	})
	put("head", func(b *bytes.Buffer) error {
		return EncodeHead(b, &checkpoint.State{Term: 3, Sequence: 99, NextOrdinal: 1000, NextDeadLetter: 5, Source: "/etcd/prod", ClusterID: 1 << 63, Epoch: 2})
	})
	put("range", func(b *bytes.Buffer) error {
		return EncodeRange(b, &checkpoint.RangeState{
			Range:    keyhook.Prefix([]byte("/service/")),
			Position: keyhook.Position{Next: 500, Admitted: 3},
			Seed:     &checkpoint.Seed{Revision: 499, Cursor: []byte("/service/m"), Emit: true},
			Anchor:   &checkpoint.Anchor{Type: keyhook.Put, Key: []byte("/service/a"), Revision: 498, ValueHash: 77}, Forgotten: 4096,
		})
	})
	put("lane", func(b *bytes.Buffer) error {
		return EncodeLane(b, checkpoint.Lane{Number: 4, Rule: "failover", Send: "page", Sink: "pager"})
	})
	put("sink", func(b *bytes.Buffer) error {
		return EncodeSink(b, checkpoint.SinkState{Name: "pager", Held: true, Reason: "410 Gone", Since: day})
	})
	put("paused sink", func(b *bytes.Buffer) error {
		return EncodeSink(b, checkpoint.SinkState{Name: "pager", Held: true, Since: day, Fingerprint: "0123", Paused: true, PausedSince: day.Add(time.Minute)})
	})
	put("dead record", func(b *bytes.Buffer) error {
		_, err := b.Write(AppendDead(nil, &checkpoint.Dead{Sink: "pager", FailedAt: day, Size: 12345}))
		return err
	})
	put("mirror entry", func(b *bytes.Buffer) error {
		_, err := b.Write(AppendEntry(nil, &checkpoint.Entry{KeyValue: *d.Event.Last, Deleted: true, Weight: 12345}))
		return err
	})
	put("owed record", func(b *bytes.Buffer) error {
		_, err := b.Write(AppendOwed(nil, &checkpoint.Owed{Admitted: day, Retry: d.Retry}))
		return err
	})
	return all
}

func sampleDelivery() *keyhook.Delivery {
	return &keyhook.Delivery{
		ID: "500-00112233445566778899aabbccddeeff", Rule: "failover", Send: "page", Sink: "pager",
		Order: keyhook.OrderNone, OnFailure: keyhook.Supersede,
		Event: &keyhook.Event{
			Type: keyhook.Put, Key: []byte("/service/a\x00\xff"), Value: []byte("new"),
			Revision: 500, CreateRevision: 400, Version: 7, Lease: 0x1234567890abcdef, Occurrence: 1, Time: day, Synthetic: true,
			Prev: &keyhook.KeyValue{Value: []byte("old"), Revision: 450, CreateRevision: 400, Version: 6, Lease: 1},
			Last: &keyhook.KeyValue{Value: []byte("older"), Revision: 440, CreateRevision: 400, Version: 5},
		},
		Message: keyhook.Message{
			ContentType: "application/json", Headers: []keyhook.Header{{Name: "X-A", Value: "1"}, {Name: "X-A", Value: "\xff"}},
			Body: []byte(`{"a":1}`), Subject: "audit.a",
		},
		Rejected: &keyhook.Rejection{Reason: keyhook.ReasonRender, Error: "no such key"},
		Ordinal:  42, Admitted: day,
		Retry: keyhook.Retry{Attempts: 3, Interval: 4 * time.Second, Due: day.Add(time.Minute), Error: "503 \xff"},
	}
}

func decodeAny(kind string, b []byte) (err error) {
	switch kind {
	case "delivery":
		_, err = DecodeDelivery(b)
	case "dead letter":
		_, err = DecodeDeadLetter(b)
	case "head":
		err = DecodeHead(b, &checkpoint.State{})
	case "range":
		_, err = DecodeRange(b)
	case "lane":
		_, err = DecodeLane(b)
	case "sink", "paused sink":
		_, err = DecodeSink(b)
	case "dead record":
		_, err = DecodeDead(b)
	case "mirror entry":
		_, err = DecodeEntry(b)
	case "owed record":
		_, err = DecodeOwed(b)
	default:
		panic(kind)
	}
	return err
}

func decoded(t *testing.T, kind string, b []byte) (v any) {
	t.Helper()
	var err error
	switch kind {
	case "delivery":
		v, err = DecodeDelivery(b)
	case "dead letter":
		v, err = DecodeDeadLetter(b)
	case "head":
		var s checkpoint.State
		err = DecodeHead(b, &s)
		v = s
	case "range":
		v, err = DecodeRange(b)
	case "lane":
		v, err = DecodeLane(b)
	case "sink", "paused sink":
		v, err = DecodeSink(b)
	case "dead record":
		v, err = DecodeDead(b)
	case "mirror entry":
		v, err = DecodeEntry(b)
	case "owed record":
		v, err = DecodeOwed(b)
	default:
		t.Fatalf("unknown kind %s", kind)
	}
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return v
}

func check(t *rapid.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// text is any string, UTF-8 or not.
var text = rapid.Custom(func(t *rapid.T) string {
	return string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, "text"))
})

// drawBytes draws bytes; nothing is nil, as it is after decoding.
func drawBytes(t *rapid.T, label string) []byte {
	b := rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, label)
	if len(b) == 0 {
		return nil
	}
	return b
}

func drawTime(t *rapid.T, label string) time.Time {
	n := rapid.Int64().Draw(t, label)
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func drawRetry(t *rapid.T) keyhook.Retry {
	return keyhook.Retry{
		Attempts: rapid.IntMin(0).Draw(t, "attempts"),
		Interval: time.Duration(rapid.Int64().Draw(t, "interval")),
		Due:      drawTime(t, "due"),
		Error:    text.Draw(t, "error"),
		Stage:    keyhook.Stage(rapid.IntRange(0, int(keyhook.Standing)).Draw(t, "stage")),
	}
}

func drawKeyValue(t *rapid.T) *keyhook.KeyValue {
	return &keyhook.KeyValue{
		Value: drawBytes(t, "value"), Revision: rapid.Int64().Draw(t, "revision"),
		CreateRevision: rapid.Int64().Draw(t, "create revision"), Version: rapid.Int64().Draw(t, "version"), Lease: rapid.Int64().Draw(t, "lease"),
	}
}

func drawDelivery(t *rapid.T) *keyhook.Delivery {
	d := &keyhook.Delivery{
		ID: text.Draw(t, "id"), Rule: text.Draw(t, "rule"), Send: text.Draw(t, "send"), Sink: text.Draw(t, "sink"),
		Order:     keyhook.Order(rapid.Uint8().Draw(t, "order")),
		OnFailure: keyhook.OnFailure(rapid.Uint8().Draw(t, "on failure")),
		Message:   keyhook.Message{ContentType: text.Draw(t, "type"), Body: drawBytes(t, "body"), Subject: text.Draw(t, "subject")},
		Ordinal:   rapid.Uint64().Draw(t, "ordinal"), Admitted: drawTime(t, "admitted"), Retry: drawRetry(t),
	}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		d.Message.Headers = append(d.Message.Headers, keyhook.Header{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
	}
	if rapid.Bool().Draw(t, "rejected") {
		d.Rejected = &keyhook.Rejection{Reason: keyhook.Reason(text.Draw(t, "reason")), Error: text.Draw(t, "why")}
	}
	d.Chain = drawBytes(t, "chain")
	d.Timing = keyhook.Timing{For: time.Duration(rapid.Int64().Draw(t, "for")), Every: time.Duration(rapid.Int64().Draw(t, "every"))}
	if rapid.Bool().Draw(t, "event") {
		d.Event = drawEvent(t)
		for range rapid.IntRange(0, 3).Draw(t, "more of a group") {
			if d.Group == nil {
				d.Group = []*keyhook.Event{d.Event}
			}
			d.Group = append(d.Group, drawEvent(t))
		}
	}
	return d
}

func drawEvent(t *rapid.T) *keyhook.Event {
	kv := drawKeyValue(t)
	e := &keyhook.Event{
		Type: keyhook.EventType(rapid.Uint8().Draw(t, "type")), Key: drawBytes(t, "key"), Value: kv.Value,
		Revision: kv.Revision, CreateRevision: kv.CreateRevision, Version: kv.Version, Lease: kv.Lease,
		Occurrence: rapid.Int().Draw(t, "occurrence"), Time: drawTime(t, "time"), Synthetic: rapid.Bool().Draw(t, "synthetic"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "before") {
	case 1:
		e.Prev = drawKeyValue(t)
		e.Last = e.Prev
	case 2:
		e.Last = drawKeyValue(t)
	case 3:
		e.Prev, e.Last = drawKeyValue(t), drawKeyValue(t)
	}
	return e
}
