package checkpoint

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"keyhook"
)

func TestWhatIsUncoveredIsWhatWasDroppedAndIsNotKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var drop []keyhook.Range
		for range rapid.IntRange(0, 4).Draw(t, "dropped") {
			drop = append(drop, drawRange(t))
		}
		var keep []RangeState
		for range rapid.IntRange(0, 4).Draw(t, "kept") {
			r := RangeState{Range: drawRange(t)}
			if sorted := sortRanges(append(slices.Clone(keep), r)); disjoint(sorted) == nil {
				keep = sorted
			}
		}
		parts := Uncovered(drop, keep)
		in := func(rs []keyhook.Range, key []byte) bool {
			return slices.ContainsFunc(rs, func(r keyhook.Range) bool { return r.Contains(key) })
		}
		kept := func(key []byte) bool {
			return slices.ContainsFunc(keep, func(r RangeState) bool { return r.Range.Contains(key) })
		}
		for a := byte('a'); a <= 'h'; a++ {
			for _, key := range [][]byte{{}, {a}, {a, 0}, {a, 'm'}, {0xff}} {
				if got, want := in(parts, key), in(drop, key) && !kept(key); got != want {
					t.Fatalf("key %q: uncovered %v, want %v\ndrop %v\nkeep %v\nparts %v", key, got, want, drop, keep, parts)
				}
			}
		}
	})
}

func TestAStateIsLeftAsItIsByWhatComesAfter(t *testing.T) {
	first := &Commit{
		Term: 1, Sequence: 1, NextOrdinal: 9,
		Ranges: []RangeState{{Range: keyhook.Prefix([]byte("a")), Anchor: &Anchor{Key: []byte("a")}}},
		Lanes:  []Lane{{Number: 2, Rule: "r"}}, Sinks: []SinkState{{Name: "s", Held: true}},
		Dead: []DeadLetter{{Number: 1, DeadLetter: keyhook.DeadLetter{Delivery: &keyhook.Delivery{Sink: "s"}}}},
	}
	s, err := (&State{}).After(first, none)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Clone()
	if _, err := s.After(&Commit{
		DropDead: []uint64{1, 1, 7},
		Term:     2, Sequence: 2, NextOrdinal: 10, Identity: &Identity{Source: "x"},
		DropRanges: []keyhook.Range{keyhook.Prefix([]byte("a"))}, Ranges: []RangeState{{Range: keyhook.Prefix([]byte("b"))}},
		DropLanes: []uint32{2}, Lanes: []Lane{{Number: 1, Rule: "q"}}, Sinks: []SinkState{{Name: "s"}, {Name: "t", Held: true}},
		Dead: []DeadLetter{{Number: 2, DeadLetter: keyhook.DeadLetter{Delivery: &keyhook.Delivery{Sink: "s"}}}},
	}, func(number uint64) (string, bool, error) { return "s", number == 1, nil }); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, before) {
		t.Fatalf("got  %+v\nwant %+v", s, before)
	}
}

func TestADeletedKeyIsRememberedForABoundedWeight(t *testing.T) {
	live, gone := &Entry{}, &Entry{Deleted: true, Weight: 10}
	for forgotten, want := range map[uint64]bool{0: true, 10: true, 10 + MaxRemembered - 1: true, 10 + MaxRemembered: false, 1 << 63: false} {
		if got := gone.Remembered(forgotten); got != want {
			t.Errorf("at %d: %v, want %v", forgotten, got, want)
		}
		if !live.Remembered(forgotten) {
			t.Errorf("at %d: a live key is not remembered", forgotten)
		}
	}
}

func drawRange(t *rapid.T) keyhook.Range {
	start, end := rapid.SampledFrom([]string{"", "a", "b", "c\x00", "d", "e", "g"}).Draw(t, "start"), rapid.SampledFrom([]string{"", "b", "c", "d", "d\x00", "f", "h"}).Draw(t, "end")
	r := keyhook.Range{Start: []byte(start), End: []byte(end)}
	if end != "" && start >= end {
		r.End = append([]byte(start), 'z')
	}
	return r
}

func sortRanges(rs []RangeState) []RangeState {
	slices.SortFunc(rs, func(a, b RangeState) int { return bytes.Compare(a.Range.Start, b.Range.Start) })
	return rs
}

// none is what is asked where there are no dead letters.
func none(uint64) (string, bool, error) { return "", false, nil }
