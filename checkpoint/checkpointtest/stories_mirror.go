package checkpointtest

import (
	"bytes"
	"fmt"
	"strings"

	"keyhook"
	"keyhook/checkpoint"
)

var mirrorStories = []story{
	{"a key that was never seen has no entry", func(t *teller) {
		t.everAfter(func() {
			if e := t.lookup(0, "a"); e != nil {
				t.Fatalf("entry %+v", e)
			}
			t.same("entries", t.keys(0, everything), []string(nil))
		})
	}},
	{"an entry comes back as it was", func(t *teller) {
		live := &checkpoint.Entry{KeyValue: keyhook.KeyValue{
			Value: []byte("v\x00\xff"), Revision: 1 << 62, CreateRevision: 5, Version: 3, Lease: -7,
		}}
		gone := &checkpoint.Entry{KeyValue: live.KeyValue, Deleted: true, Weight: 1 << 63}
		empty := &checkpoint.Entry{KeyValue: keyhook.KeyValue{Revision: 1, CreateRevision: 1, Version: 1}}
		want := map[string]*checkpoint.Entry{"live": live, "gone": gone, "empty": empty, "": live, "\x00\xff \n.*": live}
		c := checkpoint.Commit{Ranges: []checkpoint.RangeState{at(everything, 2)}}
		for key, e := range want {
			c.Mirror = append(c.Mirror, checkpoint.MirrorChange{Key: []byte(key), Entry: e})
		}
		t.commit(c)
		t.everAfter(func() {
			for key, e := range want {
				t.same(key, t.lookup(0, key), e)
			}
			for _, e := range collect(t, t.b.Entries(t.Context(), 0, everything)) {
				t.same(string(e.Key), &e.Entry, want[string(e.Key)])
			}
			t.same("count", len(t.keys(0, everything)), len(want))
		})
	}},
	{"of several changes of a key the last counts", func(t *teller) {
		t.commit(checkpoint.Commit{Mirror: []checkpoint.MirrorChange{put("a", "1", 1), put("a", "2", 2), put("b", "1", 1), {Key: []byte("b")}}})
		t.commit(checkpoint.Commit{Mirror: []checkpoint.MirrorChange{{Key: []byte("a")}, put("a", "3", 3), {Key: []byte("c")}}})
		t.everAfter(func() {
			t.same("entry", t.lookup(0, "a"), put("a", "3", 3).Entry)
			t.same("keys", t.keys(0, everything), []string{"a"})
		})
	}},
	{"a mirror keeps nothing of what it was given, and gives nothing of it away", func(t *teller) {
		c := put("a", "1", 1)
		t.commit(checkpoint.Commit{Mirror: []checkpoint.MirrorChange{c}})
		c.Key[0], c.Entry.Value[0], c.Entry.Revision = 'z', 'z', 9
		t.lookup(0, "a").Value[0] = 'y'
		t.everAfter(func() { t.same("entry", t.lookup(0, "a"), put("a", "1", 1).Entry) })
	}},
	{"entries go in the order of their keys, within their range", func(t *teller) {
		t.commit(checkpoint.Commit{Mirror: []checkpoint.MirrorChange{
			put("b", "", 1), put("a", "", 1), put("b\x00", "", 1), put("a\xff", "", 1), deleted("aa", "", 1, 5), put("\xff\xff", "", 1), put("", "", 1),
		}})
		t.everAfter(func() {
			t.same("all", t.keys(0, everything), []string{"", "a", "aa", "a\xff", "b", "b\x00", "\xff\xff"})
			t.same("a prefix", t.keys(0, keyhook.Prefix([]byte("a"))), []string{"a", "aa", "a\xff"})
			t.same("one", t.keys(0, keyhook.Single([]byte("b"))), []string{"b"})
			t.same("to the end", t.keys(0, between("b\x00", "")), []string{"b\x00", "\xff\xff"})
			t.same("a high prefix", t.keys(0, keyhook.Prefix([]byte("\xff"))), []string{"\xff\xff"})
			t.same("none", t.keys(0, between("c", "d")), []string(nil))
		})
	}},
	{"keys are looked up together", func(t *teller) {
		large := strings.Repeat("x", 600)
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{at(everything, 1)}, Mirror: []checkpoint.MirrorChange{
			put("a", "1", 1), put("aa", "2", 1), deleted("b", "3", 1, 3), put("c", large, 1), put("d", large, 1), put("\xff", "4", 1),
		}})
		t.everAfter(func() {
			t.same("all", t.lookupAll(0, 1<<20, "", "a", "aa", "ab", "b", "\xff", "\xff\xff"), []string{"-", "1", "2", "-", "3", "4", "-"})
			t.same("in any order", t.lookupAll(0, 1<<20, "b", "a", "x", "a"), []string{"3", "1", "-", "1"})
			t.same("what fits", t.lookupAll(0, 1000, "a", "c", "d", "x"), []string{"1", large})
			t.same("one at least", t.lookupAll(0, 10, "c", "d"), []string{large})
			t.same("another shard's", t.lookupAll(1, 1<<20, "a"), []string{"-"})
			t.same("none", t.lookupAll(0, 1<<20), []string(nil))
		})
	}},
	{"mirrors of shards do not meet", func(t *teller) {
		for _, shard := range []uint32{0, 1, 256, 1<<32 - 1} {
			t.commit(checkpoint.Commit{
				Shard: shard, Sequence: 1, Ranges: []checkpoint.RangeState{at(everything, 1)},
				Mirror: []checkpoint.MirrorChange{put("a", fmt.Sprint(shard), 1)},
			})
		}
		t.commit(checkpoint.Commit{Shard: 1, Sequence: 2, DropRanges: []keyhook.Range{everything}})
		t.everAfter(func() {
			for _, shard := range []uint32{0, 256, 1<<32 - 1} {
				t.same("entry", t.lookup(shard, "a"), put("a", fmt.Sprint(shard), 1).Entry)
				t.same("keys", t.keys(shard, everything), []string{"a"})
			}
			t.same("dropped", t.keys(1, everything), []string(nil))
		})
	}},
	{"a dropped range takes its part of the mirror along", func(t *teller) {
		t.commit(checkpoint.Commit{
			Ranges: []checkpoint.RangeState{at(between("a", "c"), 5), at(between("c", "e"), 5), at(between("x", ""), 5)},
			Mirror: []checkpoint.MirrorChange{
				put("a", "", 1), put("b", "", 1), deleted("bb", "", 1, 3), put("c", "", 1), put("d", "", 1), put("x", "", 1), put("\xff\xff", "", 1),
			},
		})
		// [a, c) becomes [b, c), [x, ∞) goes, and c is deleted and set within the commit.
		t.commit(checkpoint.Commit{
			DropRanges: []keyhook.Range{between("a", "c"), between("x", ""), between("p", "q")},
			Ranges:     []checkpoint.RangeState{at(between("b", "c"), 6)},
			Mirror:     []checkpoint.MirrorChange{put("bc", "", 6)},
		})
		t.everAfter(func() {
			t.same("ranges", t.load(0).Ranges, []checkpoint.RangeState{at(between("b", "c"), 6), at(between("c", "e"), 5)})
			t.same("keys", t.keys(0, everything), []string{"b", "bb", "bc", "c", "d"})
		})
	}},
	{"ranges that merge keep the mirror of both", func(t *teller) {
		t.commit(checkpoint.Commit{
			Ranges: []checkpoint.RangeState{at(between("a", "b"), 5), at(between("d", "e"), 5)},
			Mirror: []checkpoint.MirrorChange{put("a", "", 1), put("d", "", 1)},
		})
		t.commit(checkpoint.Commit{
			DropRanges: []keyhook.Range{between("a", "b"), between("d", "e")},
			Ranges:     []checkpoint.RangeState{at(between("a", "e"), 5)},
		})
		t.everAfter(func() { t.same("keys", t.keys(0, everything), []string{"a", "d"}) })
	}},
	{"a range that is dropped and set anew keeps its mirror", func(t *teller) {
		t.commit(checkpoint.Commit{Ranges: []checkpoint.RangeState{at(everything, 5)}, Mirror: []checkpoint.MirrorChange{put("a", "", 1)}})
		t.commit(checkpoint.Commit{DropRanges: []keyhook.Range{everything}, Ranges: []checkpoint.RangeState{at(everything, 1)}})
		t.everAfter(func() {
			t.same("ranges", t.load(0).Ranges, []checkpoint.RangeState{at(everything, 1)})
			t.same("keys", t.keys(0, everything), []string{"a"})
		})
	}},
	{"the last values of deleted keys are forgotten in time, and not before", func(t *teller) {
		const weight = 100
		forgotten := func(n uint64) []checkpoint.RangeState {
			r, s := at(between("a", "b"), 5), at(between("b", "c"), 5)
			r.Forgotten = n
			return []checkpoint.RangeState{r, s}
		}
		t.commit(checkpoint.Commit{Ranges: forgotten(weight), Mirror: []checkpoint.MirrorChange{
			deleted("a-old", "v", 1, weight), deleted("a-back", "v", 1, weight), deleted("a-again", "v", 1, weight), put("a-live", "v", 1),
			deleted("b-other", "v", 1, weight),
		}})
		t.commit(checkpoint.Commit{Ranges: forgotten(weight + checkpoint.MaxRemembered - 1), Mirror: []checkpoint.MirrorChange{
			put("a-back", "w", 2), deleted("a-again", "w", 2, weight+checkpoint.MaxRemembered/2),
		}})
		t.empties(func() bool { return true }) // time enough to forget too much
		all := []string{"a-again", "a-back", "a-live", "a-old", "b-other"}
		t.everAfter(func() { t.same("still there", t.keys(0, everything), all) })

		t.commit(checkpoint.Commit{Ranges: forgotten(weight + checkpoint.MaxRemembered/4*5)})
		left := []string{"a-again", "a-back", "a-live", "b-other"}
		t.empties(func() bool { return t.lookup(0, "a-old") == nil })
		t.everAfter(func() { t.same("the oldest is gone", t.keys(0, everything), left) })
		t.same("came back", t.lookup(0, "a-back"), put("a-back", "w", 2).Entry)

		t.commit(checkpoint.Commit{Ranges: forgotten(weight + 3*checkpoint.MaxRemembered)})
		t.empties(func() bool { return t.lookup(0, "a-again") == nil })
		t.everAfter(func() {
			t.same("all that is due is gone", t.keys(0, everything), []string{"a-back", "a-live", "b-other"})
		})
	}},
	{"a large backlog of deleted keys is forgotten", func(t *teller) {
		const n = 5000
		r := at(everything, 5)
		for round := range 2 {
			c := checkpoint.Commit{}
			for i := range n {
				c.Mirror = append(c.Mirror, deleted(fmt.Sprintf("%d-%d", round, i), "v", 1, uint64(round)*2*checkpoint.MaxRemembered+1))
			}
			r.Forgotten = uint64(round)*2*checkpoint.MaxRemembered + 1
			c.Ranges = []checkpoint.RangeState{r}
			t.commit(c)
		}
		t.empties(func() bool { return len(t.keys(0, everything)) <= n })
		t.everAfter(func() {
			t.same("left", len(t.keys(0, everything)), n)
			t.same("first", t.keys(0, everything)[0], "1-0")
		})
	}},
	{"large values and keys fit", func(t *teller) {
		c := checkpoint.Commit{}
		big := string(bytes.Repeat([]byte{7}, 3<<19))
		for i := range 8 {
			c.Mirror = append(c.Mirror, put(fmt.Sprintf("%d", i), big, 1))
		}
		c.Mirror = append(c.Mirror, put(big, "v", 1))
		t.commit(c)
		t.everAfter(func() {
			t.same("keys", len(t.keys(0, everything)), 9)
			t.same("large value", t.lookup(0, "7"), put("7", big, 1).Entry)
			t.same("large key", t.lookup(0, big), put(big, "v", 1).Entry)
		})
	}},
	{"a hundred thousand entries fit", func(t *teller) {
		const n = 100_000
		for i := 0; i < n; i += n / 4 {
			c := checkpoint.Commit{}
			for j := range n / 4 {
				c.Mirror = append(c.Mirror, put(fmt.Sprintf("/key/%06d", i+j), "some value", int64(i+j)))
			}
			t.commit(c)
		}
		t.everAfter(func() {
			i := 0
			for e, err := range t.b.Entries(t.Context(), 0, everything) {
				if err != nil || e.Revision != int64(i) {
					t.Fatalf("entry %d: %s at %d, %v", i, e.Key, e.Revision, err)
				}
				i++
			}
			t.same("entries", i, n)
			t.same("one", t.lookup(0, "/key/054321"), put("/key/054321", "some value", 54321).Entry)
		})
	}},
}

// empties makes empty commits until the store has done what it may do at its
// leisure, for as long as that may take.
func (t *teller) empties(done func() bool) {
	t.Helper()
	const patience = 100
	for i := range patience {
		t.commit(checkpoint.Commit{})
		if done() && i >= 3 {
			return
		}
	}
	t.Fatalf("not done after %d commits", patience)
}
