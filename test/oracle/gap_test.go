package oracle

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the stories below tell with one twist: keyhook has read up to revision 3,
// what came up to revision 7 was compacted, and it compared at revision 7. There
// a has another value, b is gone, c is new, d was created and deleted, and e is
// what it was. Then everything is written again.
func holed() History {
	return Join(History{
		{Revision: 2, Sub: 0, Type: Put, Key: "a", Value: 10, Created: 2, Version: 1},
		{Revision: 2, Sub: 1, Type: Put, Key: "b", Value: 20, Created: 2, Version: 1},
		{Revision: 2, Sub: 2, Type: Put, Key: "e", Value: 50, Created: 2, Version: 1},
		{Revision: 3, Type: Put, Key: "a", Value: 11, Created: 2, Version: 2},
		{Revision: 4, Sub: 0, Type: Put, Key: "a", Value: 12, Created: 2, Version: 3},
		{Revision: 4, Sub: 1, Type: Put, Key: "d", Value: 40, Created: 4, Version: 1},
		{Revision: 5, Type: Put, Key: "a", Value: 13, Created: 2, Version: 4},
		{Revision: 6, Sub: 0, Type: Delete, Key: "b"},
		{Revision: 6, Sub: 1, Type: Delete, Key: "d"},
		{Revision: 7, Type: Put, Key: "c", Value: 30, Created: 7, Version: 1},
		{Revision: 8, Type: Put, Key: "a", Value: 14, Created: 2, Version: 5},
		{Revision: 9, Type: Put, Key: "b", Value: 21, Created: 9, Version: 1},
	})
}

var hole = Gap{From: Moment{0, 4}, To: Moment{0, 7}}

// tellings is a stream of deliveries that is being told.
type tellings struct {
	h        History
	attempts []Attempt
}

// told is a delivery of a change that the history holds.
func (ts *tellings) told(key string, revision int64, typ Type) *Attempt {
	for _, c := range ts.h {
		if c.Key == key && c.Revision == revision && c.Type == typ && !c.Restored {
			return ts.add(c)
		}
	}
	panic(fmt.Sprintf("no %s of %s at %d", typ, key, revision))
}

// listed is the same of what a listing has shown.
func (ts *tellings) listed(key string, revision int64) *Attempt {
	a := ts.told(key, revision, Put)
	a.Synthetic, a.Prev = true, nil
	return a
}

// gone is a synthetic DELETE of what a key held.
func (ts *tellings) gone(key string, revision int64) *Attempt {
	a := ts.told(key, revision, Put)
	prev := Previous{a.Value, a.Revision, a.Created, a.Version, a.Lease}
	*a = Attempt{
		Arrival: a.Arrival, ID: fmt.Sprintf("%s-%d-gone", key, revision), Type: Delete, Key: key, Revision: revision,
		Prev: &prev, Synthetic: true, OK: true, Answered: a.Answered,
	}
	return a
}

func (ts *tellings) add(c *Change) *Attempt {
	n := len(ts.attempts)
	a := faithfully(History{c})[0]
	a.ID = fmt.Sprintf("%s-%d-%s", c.Key, c.Revision, c.Type)
	a.Arrival, a.Answered = n+1, noon.Add(time.Duration(n)*10*time.Millisecond)
	ts.attempts = append(ts.attempts, a)
	return &ts.attempts[n]
}

func (ts *tellings) head() {
	ts.told("a", 2, Put)
	ts.told("b", 2, Put)
	ts.told("e", 2, Put)
	ts.told("a", 3, Put)
}

func (ts *tellings) repair() {
	ts.listed("a", 5)
	ts.gone("b", 2)
	ts.listed("c", 7)
}

func (ts *tellings) tail() {
	ts.told("a", 8, Put)
	ts.told("b", 9, Put)
}

func TestCheckOfAGap(t *testing.T) {
	tests := map[string]struct {
		tell    func(ts *tellings)
		more    History
		promise Promise
		want    []Guarantee
		says    string
	}{
		"repaired": {
			tell:    func(ts *tellings) { ts.head(); ts.repair(); ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
		},
		"a gap that nobody speaks of": {
			tell: func(ts *tellings) { ts.head(); ts.repair(); ts.tail() },
			want: []Guarantee{
				Faithful,                  // nothing was there to derive a DELETE from
				Ordered, Ordered, Ordered, // a goes on behind what is missing, and b
				Reliable, Reliable, Reliable, Reliable, // a and d at 4, b and d at 6
			},
		},
		"read after all": {
			tell: func(ts *tellings) {
				for _, c := range ts.h {
					ts.add(c)
				}
			},
			promise: Promise{Gaps: []Gap{hole}},
		},
		"a key that was written is not told": {
			tell:    func(ts *tellings) { ts.head(); ts.gone("b", 2); ts.listed("c", 7); ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Ordered, Reliable}, says: `PUT "a" at 8/0 was tried (attempt 7, succeeded: true) before the gap`,
		},
		"a key that was created is not told": {
			tell:    func(ts *tellings) { ts.head(); ts.listed("a", 5); ts.gone("b", 2); ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Reliable}, says: `of "c" it ends with PUT "c" at 7/0, and the receiver knows <nil>`,
		},
		"a key that was deleted is not told": {
			tell:    func(ts *tellings) { ts.head(); ts.listed("a", 5); ts.listed("c", 7); ts.told("a", 8, Put) },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Reliable, Reliable}, says: `of "b" it ends with DELETE "b" at 6/0, and the receiver knows PUT "b" at 2/1`,
		},
		"an older value is told": {
			tell:    func(ts *tellings) { ts.head(); ts.listed("a", 4); ts.gone("b", 2); ts.listed("c", 7) },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Reliable, Reliable, Reliable}, says: "at 5/0, and the receiver knows PUT \"a\" at 4/0",
		},
		"what keys held in the gap arrives behind its end": {
			tell:    func(ts *tellings) { ts.head(); ts.repair(); ts.told("a", 4, Put); ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Ordered}, says: `PUT "a" at 4/0 was tried (attempt 8, succeeded: true) after PUT "a" at 5/0 had succeeded`,
		},
		"a deletion of what is there": {
			tell:    func(ts *tellings) { ts.head(); ts.repair(); ts.gone("e", 2); ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Faithful}, says: "no gap holds a deletion of it",
		},
		"a deletion of what never was": {
			tell: func(ts *tellings) {
				ts.head()
				ts.repair()
				ts.gone("e", 2).Prev.Value = 99
				ts.tail()
			},
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Faithful}, says: "which it never did",
		},
		"a deletion under two ids": {
			tell:    func(ts *tellings) { ts.head(); ts.repair(); ts.gone("b", 2).ID = "other"; ts.tail() },
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Unique}, says: "under another id",
		},
		"a repair that a kill has interrupted": {
			tell: func(ts *tellings) {
				ts.head()
				ts.listed("a", 4) // it was compared at revision 4 first
				ts.repair()
				ts.tail()
			},
			promise: Promise{Gaps: []Gap{hole}, Kills: []Kill{{At: noon.Add(45 * time.Millisecond)}}},
		},
		"told right before a kill, and taken back in the gap": {
			tell: func(ts *tellings) {
				ts.head()
				ts.told("a", 4, Put)
				ts.told("d", 4, Put)
				ts.repair()
				ts.tail()
			},
			promise: Promise{Gaps: []Gap{hole}, Kills: []Kill{{At: noon.Add(55 * time.Millisecond)}}},
		},
		"taken back in the first of two gaps": {
			tell: func(ts *tellings) {
				ts.head()
				ts.told("d", 4, Put)
				ts.listed("a", 5)
				ts.gone("b", 2)
				ts.listed("c", 7)
				ts.listed("a", 8)
				ts.listed("b", 9)
				ts.told("d", 12, Put)
			},
			// d comes and goes in the second one again.
			more: History{
				{Revision: 10, Type: Put, Key: "d", Value: 41, Created: 10, Version: 1},
				{Revision: 11, Type: Delete, Key: "d"},
				{Revision: 12, Type: Put, Key: "d", Value: 42, Created: 12, Version: 1},
			},
			promise: Promise{Gaps: []Gap{hole, {From: Moment{0, 8}, To: Moment{0, 11}}}, Kills: []Kill{{At: noon.Add(45 * time.Millisecond)}}},
		},
		"told before a kill, durable, and taken back in the gap": {
			tell: func(ts *tellings) {
				ts.head()
				ts.told("a", 4, Put)
				ts.told("d", 4, Put)
				ts.repair()
				ts.tail()
			},
			promise: Promise{Gaps: []Gap{hole}, Kills: []Kill{{At: noon.Add(55 * time.Millisecond), Durable: noon.Add(54 * time.Millisecond)}}, InFlight: 9},
			want:    []Guarantee{Reliable}, says: `the receiver knows PUT "d" at 4/1`,
		},
		"told without a kill, and taken back in the gap": {
			tell: func(ts *tellings) {
				ts.head()
				ts.told("a", 4, Put)
				ts.told("d", 4, Put)
				ts.repair()
				ts.tail()
			},
			promise: Promise{Gaps: []Gap{hole}},
			want:    []Guarantee{Reliable}, says: `the receiver knows PUT "d" at 4/1`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := &tellings{h: Join(holed(), tt.more)}
			tt.tell(ts)
			judged(t, Check(ts.h, ts.attempts, tt.promise), tt.want, tt.says)
		})
	}
}

func judged(t *testing.T, r *Report, want []Guarantee, says string) {
	t.Helper()
	var got []Guarantee
	for _, v := range r.Violations {
		got = append(got, v.Guarantee)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %v, want %v\n%v", got, want, r.Err())
	}
	if says != "" && !strings.Contains(r.Err().Error(), says) {
		t.Errorf("got %v, want it to say %q", r.Err(), says)
	}
}

func TestCheckOfBookmarks(t *testing.T) {
	at := func(n int, revision int64, owed, arrived int) Bookmark {
		return Bookmark{At: noon.Add(time.Duration(n) * 10 * time.Millisecond), Position: Moment{0, revision}, Owed: owed, Arrived: arrived}
	}
	tests := map[string]struct {
		marks []Bookmark
		kills []Kill
		want  []Guarantee
		says  string
	}{
		"nothing is owed of what has arrived": {marks: []Bookmark{at(0, 2, 0, 1), at(5, 6, 0, 6)}},
		"what has not arrived is owed":        {marks: []Bookmark{at(2, 5, 2, 2)}},
		"too little is owed": {
			marks: []Bookmark{at(2, 5, 1, 2)}, want: []Guarantee{Bookmarkable}, says: `owes 1, but 2 changes up to there had not been delivered, the first: PUT "a" at 4/0`,
		},
		"it goes back": {
			marks: []Bookmark{at(5, 6, 0, 6), at(6, 5, 0, 6)}, want: []Guarantee{Bookmarkable}, says: "went back from 6 to 5",
		},
		"it goes back with a kill": {
			marks: []Bookmark{at(5, 6, 0, 6), at(7, 5, 0, 6)}, kills: []Kill{{At: noon.Add(60 * time.Millisecond)}},
		},
		"it passes etcd": {
			marks: []Bookmark{{At: noon, Position: Moment{0, 7}, Arrived: 6, Head: 6}}, want: []Guarantee{Bookmarkable}, says: "but etcd was at 6",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			judged(t, Check(story(), faithfully(story()), Promise{Bookmarks: tt.marks, Kills: tt.kills}), tt.want, tt.says)
		})
	}
}

// The first two of the vectors in docs/architecture.md.
func TestIdentifierMakesTheDocumentedIDs(t *testing.T) {
	by := &Identifier{Source: "/etcd/prod", Rule: "patroni-failover", Send: "pager"}
	leader := Attempt{Type: Put, Key: "/service/batman/leader", Revision: 42}
	for id, want := range map[string]made{
		"42-2b2aa2ce70a700933801483bc9ea4cf9": {epoch: 0},
		"42-a3616b8beed44b699e19b3baa4a7d9ea": {epoch: 1},
	} {
		leader.ID = id
		if got, ok := by.explain(&leader); !ok || got != want {
			t.Errorf("%s is of %+v (%t), not %+v", id, got, ok, want)
		}
	}
	leader.ID = "42-00000000000000000000000000000000"
	if _, ok := by.explain(&leader); ok {
		t.Error("an id of nothing was explained")
	}
	r := Check(Join(History{{Revision: 42, Type: Put, Key: leader.Key, Created: 42, Version: 1}}),
		[]Attempt{{Arrival: 1, ID: leader.ID, Type: Put, Key: leader.Key, Revision: 42, Created: 42, Version: 1, OK: true, Answered: noon}}, Promise{ID: by})
	judged(t, r, []Guarantee{Unique}, "is not the one of")
}
