package oracle

import (
	"fmt"
	"testing"
)

// An etcd that was restored to revision 3 after keyhook had read up to 5, and was
// written to again: a is back at its old value, b is gone, c is as it was.
func restoredHistory() History {
	before := History{
		{Revision: 2, Sub: 0, Type: Put, Key: "a", Value: 10, Created: 2, Version: 1},
		{Revision: 2, Sub: 1, Type: Put, Key: "c", Value: 30, Created: 2, Version: 1},
		{Revision: 3, Type: Put, Key: "a", Value: 11, Created: 2, Version: 2},
	}
	lost := History{
		{Revision: 4, Type: Put, Key: "a", Value: 12, Created: 2, Version: 3},
		{Revision: 5, Type: Put, Key: "b", Value: 20, Created: 5, Version: 1},
		{Revision: 6, Type: Delete, Key: "c"},
	}
	after := History{
		{Revision: 4, Type: Put, Key: "d", Value: 40, Created: 4, Version: 1},
		{Revision: 5, Type: Put, Key: "a", Value: 13, Created: 2, Version: 3},
	}
	return Splice(Era{Changes: Join(before, lost)}, Era{Base: 3, Changes: Join(before, after)})
}

func TestSpliceBeginsAnewWhereARestoreWentBackTo(t *testing.T) {
	var got []string
	for _, c := range restoredHistory() {
		prev := "nothing"
		if c.Prev != nil {
			prev = fmt.Sprint(c.Prev.Value)
		}
		got = append(got, fmt.Sprintf("%v: %v after %s", c, c.Value, prev))
	}
	want := []string{
		`PUT "a" at 2/0: 10 after nothing`,
		`PUT "c" at 2/1: 30 after nothing`,
		`PUT "a" at 3/0: 11 after 10`,
		`PUT "a" at 4/0: 12 after 11`,
		`PUT "b" at 5/0: 20 after nothing`,
		`DELETE "c" at 6/0: 0 after 30`,
		`PUT "a" at 3, restored at 3 (after restore 1): 11 after 12`,
		`DELETE "b" at 3, restored at 3 (after restore 1): 0 after 20`,
		`PUT "c" at 2, restored at 3 (after restore 1): 30 after nothing`,
		`PUT "d" at 4/0 (after restore 1): 40 after nothing`,
		`PUT "a" at 5/0 (after restore 1): 13 after 11`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestCheckOfARestore(t *testing.T) {
	// keyhook had read up to revision 5, and compared at the restore itself.
	torn := Gap{From: Moment{0, 6}, To: Moment{1, 3}}
	begin := func(ts *tellings) {
		ts.told("a", 2, Put)
		ts.told("c", 2, Put)
		ts.told("a", 3, Put)
		ts.told("a", 4, Put)
		ts.told("b", 5, Put)
	}
	// back is what a restore brought back, under the id of a new epoch.
	back := func(ts *tellings, key string, revision int64) {
		ts.listed(key, revision).ID += "-again"
	}
	later := func(ts *tellings) {
		for _, c := range ts.h {
			if c.Era == 1 && !c.Restored {
				ts.add(c).ID += "-again"
			}
		}
	}
	tests := map[string]struct {
		tell func(ts *tellings)
		gaps []Gap
		want []Guarantee
		says string
	}{
		"followed": {
			tell: func(ts *tellings) { begin(ts); back(ts, "a", 3); ts.gone("b", 5); later(ts) },
			gaps: []Gap{torn},
		},
		"an old value that came back is not told": {
			tell: func(ts *tellings) { begin(ts); ts.gone("b", 5); later(ts) },
			gaps: []Gap{torn},
			want: []Guarantee{Ordered, Reliable}, says: `ends with PUT "a" at 3, restored`,
		},
		"a key that a restore took away is not told": {
			tell: func(ts *tellings) { begin(ts); back(ts, "a", 3); later(ts) },
			gaps: []Gap{torn},
			want: []Guarantee{Reliable}, says: `the receiver knows PUT "b" at 5/0`,
		},
		"nobody noticed": {
			tell: func(ts *tellings) { begin(ts) },
			// What it should have read was taken back, and what came after is missing.
			want: []Guarantee{Reliable, Reliable, Reliable, Reliable},
		},
		"read only up to the snapshot, it need not notice": {
			tell: func(ts *tellings) {
				ts.told("a", 2, Put)
				ts.told("c", 2, Put)
				ts.told("a", 3, Put)
				for _, c := range ts.h {
					if c.Era == 1 && !c.Restored {
						ts.add(c)
					}
				}
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ts := &tellings{h: restoredHistory()}
			tt.tell(ts)
			judged(t, Check(ts.h, ts.attempts, Promise{Gaps: tt.gaps}), tt.want, tt.says)
		})
	}
}
