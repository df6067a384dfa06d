package oracle

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The story that every case below tells with one twist: a is created, written
// and deleted, then created again and deleted within one transaction; b is
// created in between. keyhook was ready at revision 1.
func story() History {
	return Join(History{
		{Revision: 2, Type: Put, Key: "a", Value: 10, Created: 2, Version: 1},
		{Revision: 3, Type: Put, Key: "b", Value: 20, Created: 3, Version: 1, Lease: 7},
		{Revision: 4, Type: Put, Key: "a", Value: 11, Created: 2, Version: 2},
		{Revision: 5, Type: Delete, Key: "a"},
		{Revision: 6, Sub: 0, Type: Put, Key: "a", Value: 12, Created: 6, Version: 1},
		{Revision: 6, Sub: 1, Type: Delete, Key: "a"},
	})
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// faithfully makes one successful attempt at each change, 10 ms apart.
func faithfully(h History) []Attempt {
	attempts := make([]Attempt, 0, len(h))
	for i, c := range h {
		a := Attempt{
			Arrival: i + 1, ID: fmt.Sprintf("%d-%d", c.Revision, c.Sub), Type: c.Type, Key: c.Key, Revision: c.Revision,
			Value: c.Value, Created: c.Created, Version: c.Version, Lease: c.Lease,
			OK: true, Answered: noon.Add(time.Duration(i) * 10 * time.Millisecond),
		}
		if p := c.Prev; p != nil {
			a.Prev = &Previous{p.Value, p.Revision, p.Created, p.Version, p.Lease}
		}
		attempts = append(attempts, a)
	}
	return attempts
}

// again appends a second attempt at the nth, the given time after the last one.
func again(attempts []Attempt, n int, after time.Duration) []Attempt {
	a := attempts[n]
	last := attempts[len(attempts)-1]
	a.Arrival, a.Answered, a.Unread = last.Arrival+1, last.Answered.Add(after), false
	return append(attempts, a)
}

func TestCheckFindsEachViolation(t *testing.T) {
	kill := noon.Add(60 * time.Millisecond) // right behind the last change
	tests := map[string]struct {
		twist   func(as []Attempt) []Attempt
		promise Promise
		want    []Guarantee
		says    string
	}{
		"nothing is wrong": {},
		"failed attempts before each success": {twist: func(as []Attempt) []Attempt {
			var all []Attempt
			for _, a := range as {
				failed := a
				failed.OK = false
				all = append(all, failed, a)
			}
			for i := range all {
				all[i].Arrival = i + 1
			}
			return all
		}},
		"keys overtake each other": {twist: func(as []Attempt) []Attempt {
			as[0].Arrival, as[1].Arrival = 2, 1
			return as
		}},

		"a change is missing": {
			twist: func(as []Attempt) []Attempt { return as[:5] },
			want:  []Guarantee{Atomic}, says: `DELETE "a" at 6/1 was never delivered (tried: false), but other changes of its revision were`,
		},
		"a change never succeeds": {
			twist: func(as []Attempt) []Attempt { as[1].OK = false; return as },
			want:  []Guarantee{Reliable}, says: `PUT "b" at 3/0 was never delivered (tried: true)`,
		},
		"everything is missing": {
			twist: func([]Attempt) []Attempt { return nil },
			want:  []Guarantee{Reliable, Reliable, Reliable, Reliable, Reliable, Reliable},
		},
		"a change is left out": {
			twist: func(as []Attempt) []Attempt { return append(as[:2:2], as[3:]...) },
			want:  []Guarantee{Ordered, Ordered, Ordered, Reliable}, says: "was tried",
		},
		"two changes of a key change places": {
			twist: func(as []Attempt) []Attempt { as[0].Arrival, as[2].Arrival = 3, 1; return as },
			want:  []Guarantee{Ordered}, says: `PUT "a" at 4/0 was tried (attempt 1, succeeded: true) before PUT "a" at 2/0 had succeeded`,
		},
		"the changes of one transaction change places": {
			twist: func(as []Attempt) []Attempt { as[4].Arrival, as[5].Arrival = 6, 5; return as },
			want:  []Guarantee{Ordered},
		},
		"a failed attempt too early": {
			twist: func(as []Attempt) []Attempt {
				early := as[3]
				early.OK, early.Arrival = false, 0
				return append(as, early)
			},
			want: []Guarantee{Ordered}, says: "succeeded: false",
		},

		"a change that etcd does not hold": {
			twist: func(as []Attempt) []Attempt {
				return append(as, Attempt{Arrival: 9, ID: "x", Type: Put, Key: "c", Revision: 9})
			},
			want: []Guarantee{Faithful}, says: "not in etcd's history",
		},
		"a wrong value":            {twist: func(as []Attempt) []Attempt { as[2].Value = 99; return as }, want: []Guarantee{Faithful}},
		"a wrong version":          {twist: func(as []Attempt) []Attempt { as[2].Version = 1; return as }, want: []Guarantee{Faithful}},
		"a wrong create revision":  {twist: func(as []Attempt) []Attempt { as[2].Created = 4; return as }, want: []Guarantee{Faithful}},
		"a lost lease":             {twist: func(as []Attempt) []Attempt { as[1].Lease = 0; return as }, want: []Guarantee{Faithful}},
		"no previous value":        {twist: func(as []Attempt) []Attempt { as[3].Prev = nil; return as }, want: []Guarantee{Faithful}},
		"a stale previous value":   {twist: func(as []Attempt) []Attempt { as[3].Prev = as[2].Prev; return as }, want: []Guarantee{Faithful}},
		"a previous value of none": {twist: func(as []Attempt) []Attempt { as[0].Prev = &Previous{}; return as }, want: []Guarantee{Faithful}},

		"one id for two changes": {
			twist: func(as []Attempt) []Attempt { as[3].ID = as[2].ID; return as },
			want:  []Guarantee{Unique}, says: "stands for",
		},
		"another id at the second attempt": {
			twist: func(as []Attempt) []Attempt {
				as = again(as, 1, 0)
				as[6].ID, as[6].OK = "other", false
				return as
			},
			want: []Guarantee{Unique}, says: "has ids",
		},

		"a repeat without a kill": {
			twist: func(as []Attempt) []Attempt { return again(as, 5, time.Second) },
			want:  []Guarantee{Resumable}, says: "no kill came between",
		},
		"a repeat after a kill": {
			twist:   func(as []Attempt) []Attempt { return again(as, 5, time.Second) },
			promise: Promise{Kills: []Kill{{At: kill}}},
		},
		"a repeat before the kill": {
			twist:   func(as []Attempt) []Attempt { return again(as, 5, time.Millisecond) },
			promise: Promise{Kills: []Kill{{At: kill}}},
			want:    []Guarantee{Resumable},
		},
		"two repeats after one kill": {
			twist:   func(as []Attempt) []Attempt { return again(again(as, 5, time.Second), 5, time.Second) },
			promise: Promise{Kills: []Kill{{At: kill}}},
			want:    []Guarantee{Resumable},
		},
		"a repeat of what was durable": {
			twist:   func(as []Attempt) []Attempt { return again(as, 5, time.Minute) },
			promise: Promise{Kills: []Kill{{At: kill, Durable: kill.Add(-time.Millisecond)}}},
			want:    []Guarantee{Resumable}, says: "had succeeded before all was durable, 1ms earlier",
		},
		"a repeat of what may have been in flight": {
			twist:   func(as []Attempt) []Attempt { return again(as, 5, time.Minute) },
			promise: Promise{Kills: []Kill{{At: kill, Durable: kill}}, InFlight: 1},
		},
		"more repeats than were in flight": {
			twist:   func(as []Attempt) []Attempt { return again(again(as, 1, time.Second), 5, 0) },
			promise: Promise{Kills: []Kill{{At: kill, Durable: kill}}, InFlight: 1},
			want:    []Guarantee{Resumable}, says: "2 deliveries were repeated after the kill at 12:00:00.060",
		},
		"a repeat after the second kill of what the first one left behind": {
			twist: func(as []Attempt) []Attempt { return again(as, 5, time.Minute) },
			promise: Promise{Kills: []Kill{
				{At: kill.Add(time.Second), Durable: kill.Add(500 * time.Millisecond)}, {At: kill},
			}},
		},
		"a repeat of what could not be read": {
			twist: func(as []Attempt) []Attempt {
				as[5].Unread = true
				return again(as, 5, time.Second)
			},
			promise: Promise{Lossy: true},
		},
		"a request that was given up, and dealt with late": {
			twist: func(as []Attempt) []Attempt {
				as = again(as, 2, time.Second)
				as[6].Unread = true
				return as
			},
			promise: Promise{Lossy: true},
		},
		"a repeat of what could be read": {
			twist:   func(as []Attempt) []Attempt { return again(as, 5, time.Second) },
			promise: Promise{Lossy: true},
			want:    []Guarantee{Resumable},
		},

		"changes before readiness may be missing": {
			twist:   func(as []Attempt) []Attempt { return as[3:] },
			promise: Promise{After: 4},
		},
		"what is delivered from before readiness goes on from there": {
			twist:   func(as []Attempt) []Attempt { return append(as[:1:1], as[3:]...) },
			promise: Promise{After: 4},
			want:    []Guarantee{Ordered, Ordered, Ordered},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			attempts := faithfully(story())
			if tt.twist != nil {
				attempts = tt.twist(attempts)
			}
			r := Check(story(), attempts, tt.promise)
			var got []Guarantee
			for _, v := range r.Violations {
				got = append(got, v.Guarantee)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Fatalf("got %v, want %v\n%v", got, tt.want, r.Err())
			}
			if (r.Err() == nil) != (len(tt.want) == 0) {
				t.Errorf("Err() = %v", r.Err())
			}
			if tt.says != "" && !strings.Contains(r.Err().Error(), tt.says) {
				t.Errorf("got %v, want it to say %q", r.Err(), tt.says)
			}
		})
	}
}

func TestReportCounts(t *testing.T) {
	as := again(faithfully(story()), 5, time.Second)
	as[0].OK = false
	r := Check(story(), again(as, 0, 0), Promise{After: 2, Kills: []Kill{{At: noon.Add(80 * time.Millisecond)}}, InFlight: 2})
	if r.Changes != 5 || r.Attempts != 8 || r.Delivered != 5 || r.Repeats != 1 || r.Bound != 5+2 || r.Oldest != 30*time.Millisecond {
		t.Errorf("%+v", r)
	}
}
