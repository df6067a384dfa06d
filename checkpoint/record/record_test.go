package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
)

var rewrite = flag.Bool("rewrite", false, "write the files in testdata anew")

func TestEveryDeliveryComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawDelivery(t)
		var buf bytes.Buffer
		if err := EncodeDelivery(&buf, want); err != nil {
			t.Fatal(err)
		}
		got, err := DecodeDelivery(buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
		if e := want.Event; e != nil && e.Prev != nil && (got.Event.Prev == got.Event.Last) != (e.Prev == e.Last) {
			t.Fatal("previous and last values were one, and are not any more")
		}
		if got.Size() != want.Size() {
			t.Fatalf("size %d, was %d", got.Size(), want.Size())
		}
	})
}

func TestEveryDeadLetterComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := keyhook.DeadLetter{
			Delivery: drawDelivery(t),
			Reason:   keyhook.Reason(text.Draw(t, "reason")),
			Error:    text.Draw(t, "error"),
			FailedAt: drawTime(t, "failed at"),
		}
		var buf bytes.Buffer
		if err := EncodeDeadLetter(&buf, &want); err != nil {
			t.Fatal(err)
		}
		got, err := DecodeDeadLetter(buf.Bytes())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestEveryEntryComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := &checkpoint.Entry{KeyValue: *drawKeyValue(t), Deleted: rapid.Bool().Draw(t, "deleted")}
		if want.Deleted {
			want.Weight = rapid.Uint64().Draw(t, "weight")
		}
		got, err := DecodeEntry(AppendEntry(nil, want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestEveryOwedRecordComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := checkpoint.Owed{Admitted: drawTime(t, "admitted"), Retry: drawRetry(t)}
		got, err := DecodeOwed(AppendOwed(nil, &want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestEveryDeadRecordComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := checkpoint.Dead{Sink: text.Draw(t, "sink"), FailedAt: drawTime(t, "failed at"), Size: rapid.Int64().Draw(t, "size")}
		got, err := DecodeDead(AppendDead(nil, &want))
		if err != nil || got != want {
			t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
		}
	})
}

func TestEveryStateComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := checkpoint.State{
			Term: rapid.Uint64().Draw(t, "term"), Sequence: rapid.Uint64().Draw(t, "sequence"),
			NextOrdinal: rapid.Uint64().Draw(t, "ordinal"), NextDeadLetter: rapid.Uint64().Draw(t, "dead letter"),
			Source: text.Draw(t, "source"), ClusterID: rapid.Uint64().Draw(t, "cluster"), Epoch: rapid.Uint64().Draw(t, "epoch"),
		}
		rng := checkpoint.RangeState{
			Range:     keyhook.Range{Start: drawBytes(t, "start"), End: drawBytes(t, "end")},
			Position:  keyhook.Position{Next: rapid.Int64().Draw(t, "next"), Admitted: rapid.Int().Draw(t, "admitted")},
			Forgotten: rapid.Uint64().Draw(t, "forgotten"), Epoch: rapid.Uint64().Draw(t, "epoch of the range"),
		}
		if rapid.Bool().Draw(t, "being repaired") {
			rng.Repair = drawRepair(t)
		}
		if rapid.Bool().Draw(t, "seeding") {
			rng.Seed = &checkpoint.Seed{Revision: 7, Cursor: drawBytes(t, "cursor"), Emit: rapid.Bool().Draw(t, "emit")}
		}
		if rapid.Bool().Draw(t, "anchored") {
			rng.Anchor = &checkpoint.Anchor{Type: keyhook.Put, Key: drawBytes(t, "key"), Revision: 5, ValueHash: rapid.Uint64().Draw(t, "hash")}
		}
		lane := checkpoint.Lane{
			Number: rapid.Uint32().Draw(t, "lane"), Rule: text.Draw(t, "rule"), Send: text.Draw(t, "send"), Sink: text.Draw(t, "sink"),
		}
		sink := checkpoint.SinkState{
			Name: text.Draw(t, "name"), Held: rapid.Bool().Draw(t, "held"), Reason: text.Draw(t, "reason"), Since: drawTime(t, "since"),
			Fingerprint: text.Draw(t, "fingerprint"), Paused: rapid.Bool().Draw(t, "paused"), PausedSince: drawTime(t, "paused since"),
		}

		var buf bytes.Buffer
		var gotHead checkpoint.State
		check(t, EncodeHead(&buf, &head), DecodeHead(buf.Bytes(), &gotHead))
		buf = bytes.Buffer{}
		check(t, EncodeRange(&buf, &rng))
		gotRange, err := DecodeRange(buf.Bytes())
		buf = bytes.Buffer{}
		check(t, err, EncodeLane(&buf, lane))
		gotLane, err := DecodeLane(buf.Bytes())
		buf = bytes.Buffer{}
		check(t, err, EncodeSink(&buf, sink))
		gotSink, err := DecodeSink(buf.Bytes())
		check(t, err)
		for _, pair := range [][2]any{{gotHead, head}, {gotRange, rng}, {gotLane, lane}, {gotSink, sink}} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				t.Fatalf("got  %+v\nwant %+v", pair[0], pair[1])
			}
		}
	})
}

func TestARecordOfANewerVersionSaysSo(t *testing.T) {
	for kind, rec := range samples(t) {
		rec = bytes.Clone(rec)
		rec[0] = version + 1
		var newer *NewerError
		if err := decodeAny(kind, rec); !errors.As(err, &newer) || newer.Version != version+1 || newer.Hint() == "" {
			t.Errorf("%s: %v, want a NewerError", kind, err)
		}
	}
}

func TestABrokenRecordIsMalformed(t *testing.T) {
	for kind, rec := range samples(t) {
		broken := map[string][]byte{"nothing": nil, "no version": {0}, "only a version": {version}, "garbage": append([]byte{version}, "\xff\xff\xff"...)}
		for name, b := range broken {
			if err := decodeAny(kind, b); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s of %s: %v, want ErrMalformed", kind, name, err)
			}
		}
		for n := range rec {
			_ = decodeAny(kind, rec[:n]) // must not panic; bytes at the end may be missing unnoticed
		}
	}
}

// The files in testdata were written by version 1. They never change: what was
// once written must stay readable.
func TestWhatVersionOneWroteStaysReadable(t *testing.T) {
	for kind, rec := range samples(t) {
		path := filepath.Join("testdata", "v1", strings.ReplaceAll(kind, " ", "-")+".hex")
		if *rewrite {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(rec)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		old, err := hex.DecodeString(strings.TrimSpace(string(file)))
		if err != nil {
			t.Fatal(err)
		}
		got, want := decoded(t, kind, old), decoded(t, kind, rec)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", kind, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, rec := range samples(f) {
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for kind := range samples(t) {
			err := decodeAny(kind, b)
			var newer *NewerError
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.As(err, &newer) {
				t.Fatalf("%s: an error without a type: %v", kind, err)
			}
		}
	})
}

func BenchmarkEntry(b *testing.B) {
	e := &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: make([]byte, 1024), Revision: 1 << 30, CreateRevision: 1 << 29, Version: 9}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEntry(buf[:0], e)
	}
}

// BenchmarkEntryCBOR is what BenchmarkEntry would be, written like the others.
func BenchmarkEntryCBOR(b *testing.B) {
	kv := &keyhook.KeyValue{Value: make([]byte, 1024), Revision: 1 << 30, CreateRevision: 1 << 29, Version: 9}
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := encode(&buf, fromKeyValue(kv)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDelivery(b *testing.B) {
	d := sampleDelivery()
	d.Message.Body, d.Event.Value = make([]byte, 1024), make([]byte, 1024)
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := EncodeDelivery(&buf, d); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeOwed(b *testing.B) {
	rec := AppendOwed(nil, &checkpoint.Owed{Admitted: day, Retry: sampleDelivery().Retry})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeOwed(rec); err != nil {
			b.Fatal(err)
		}
	}
}

var day = time.Date(2026, 5, 17, 12, 30, 1, 123456789, time.UTC)

func drawRepair(t *rapid.T) *checkpoint.Repair {
	flag := rapid.Bool()
	return &checkpoint.Repair{
		Reason: keyhook.GapReason(text.Draw(t, "gap")), From: rapid.Int64().Draw(t, "from"), At: drawTime(t, "noticed"),
		Revision: rapid.Int64().Draw(t, "revision"), Cursor: drawBytes(t, "compared to"),
		Resume: flag.Draw(t, "resume"), Whole: flag.Draw(t, "whole"), Fill: flag.Draw(t, "fill"),
		Emit: flag.Draw(t, "emits"), Suspicion: flag.Draw(t, "suspicion"),
		Created: rapid.Int().Draw(t, "created"), Changed: rapid.Int().Draw(t, "changed"), Deleted: rapid.Int().Draw(t, "deleted"),
	}
}
