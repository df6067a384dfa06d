package onlook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"keyhook"
	"keyhook/internal/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func describe(events []*keyhook.Event) []string {
	var out []string
	for _, e := range events {
		s := fmt.Sprintf("%s %s@%d %q v%d", e.Type, e.Key, e.Revision, e.Value, e.Version)
		if e.Prev != nil {
			s += fmt.Sprintf(" prev %q", e.Prev.Value)
		}
		if e.Last != nil {
			s += fmt.Sprintf(" last %q", e.Last.Value)
		}
		out = append(out, s)
	}
	return out
}

func do(t *testing.T, c *clientv3.Client, ops ...clientv3.Op) int64 {
	t.Helper()
	resp, err := c.Txn(t.Context()).Then(ops...).Commit()
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

var ranges = []keyhook.Range{keyhook.Prefix([]byte("/a/")), keyhook.Prefix([]byte("/b/"))}

// Whoever looks on sees what happens from then on, each with what was there
// before; a key that was deleted meanwhile is remembered.
func TestFollow(t *testing.T) {
	c := etcdtest.Start(t).Client()
	do(t, c, clientv3.OpPut("/a/1", "old"))
	from := do(t, c, clientv3.OpPut("/a/1", "x"), clientv3.OpPut("/other", "x")) // 3
	do(t, c, clientv3.OpPut("/a/2", "y"), clientv3.OpDelete("/a/1"))
	do(t, c, clientv3.OpPut("/a/1", "z"))

	enough := errors.New("enough")
	var got []string
	err := Follow(t.Context(), c, ranges[:1], from, func(events []*keyhook.Event) error {
		got = append(got, fmt.Sprint(len(events)))
		got = append(got, describe(events)...)
		if len(got) >= 7 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	want := []string{
		"1", `PUT /a/1@3 "x" v2 prev "old" last "old"`,
		"2", `PUT /a/2@4 "y" v1`, `DELETE /a/1@4 "" v0 prev "x" last "x"`,
		"1", `PUT /a/1@5 "z" v1 last "x"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// The end of the look is no error.
func TestFollowEnds(t *testing.T) {
	c := etcdtest.Start(t).Client()
	ctx, cancel := context.WithCancel(t.Context())
	do(t, c, clientv3.OpPut("/b/1", "x"))
	err := Follow(ctx, c, ranges, 1, func([]*keyhook.Event) error { cancel(); return nil })
	if err != nil {
		t.Error(err)
	}
}

func TestAt(t *testing.T) {
	c := etcdtest.Start(t).Client()
	do(t, c, clientv3.OpPut("/a/1", "first"))                                 // 2
	do(t, c, clientv3.OpDelete("/a/1"), clientv3.OpPut("/b/1", "x"))          // 3
	both := do(t, c, clientv3.OpPut("/b/1", "y"), clientv3.OpPut("/a/1", "")) // 4
	do(t, c, clientv3.OpPut("/other", "x"))                                   // 5
	for rev, want := range map[int64][]string{
		3:    {`DELETE /a/1@3 "" v0 prev "first" last "first"`, `PUT /b/1@3 "x" v1`},
		both: {`PUT /a/1@4 "" v1 last "first"`, `PUT /b/1@4 "y" v2 prev "x" last "x"`},
		5:    nil,
	} {
		got, err := At(t.Context(), c, ranges, rev)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(describe(got), want) {
			t.Errorf("revision %d: got\n%q\nwant\n%q", rev, describe(got), want)
		}
	}
	if _, err := At(t.Context(), c, ranges, 6); err == nil {
		t.Error("a revision of the future was found")
	}
	if _, err := c.Compact(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	var compacted *CompactedError
	if _, err := At(t.Context(), c, ranges, 3); !errors.As(err, &compacted) || compacted.Revision != 4 {
		t.Errorf("a compacted revision: %v", err)
	}
	// What is left of the history does not say what the key held.
	got, err := At(t.Context(), c, ranges[:1], 4)
	if want := []string{`PUT /a/1@4 "" v1`}; err != nil || !slices.Equal(describe(got), want) {
		t.Errorf("got %q, %v", describe(got), err)
	}
}
