package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/internal/etcdtest"
)

// fixture is an etcd with a client.
type fixture struct {
	*etcdtest.Server
	t  testing.TB
	kv *clientv3.Client
}

func newFixture(t testing.TB, opts ...etcdtest.Option) *fixture {
	t.Helper()
	s := etcdtest.Start(t, opts...)
	return &fixture{Server: s, t: t, kv: s.Client()}
}

// reconnect waits until the fixture's own client is connected again.
func (f *fixture) reconnect() {
	f.t.Helper()
	if _, err := f.kv.Get(f.t.Context(), "/"); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) put(key, value string, opts ...clientv3.OpOption) int64 {
	f.t.Helper()
	resp, err := f.kv.Put(f.t.Context(), key, value, opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (f *fixture) del(key string, opts ...clientv3.OpOption) int64 {
	f.t.Helper()
	resp, err := f.kv.Delete(f.t.Context(), key, opts...)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (f *fixture) txn(ops ...clientv3.Op) int64 {
	f.t.Helper()
	resp, err := f.kv.Txn(f.t.Context()).Then(ops...).Commit()
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (f *fixture) compact(rev int64) {
	f.t.Helper()
	if _, err := f.kv.Compact(f.t.Context(), rev, clientv3.WithCompactPhysical()); err != nil {
		f.t.Fatal(err)
	}
}

func prefix(p string) keyhook.Range { return keyhook.Prefix([]byte(p)) }

// describe writes an event as tests compare it.
func describe(e *keyhook.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s", e.Revision, e.Type, e.Key)
	if e.Occurrence != 0 {
		fmt.Fprintf(&b, "#%d", e.Occurrence)
	}
	if e.Type == keyhook.Put {
		fmt.Fprintf(&b, "=%s v%d c%d", e.Value, e.Version, e.CreateRevision)
	}
	if e.Synthetic {
		b.WriteString(" synthetic")
	}
	for _, o := range []struct {
		name string
		kv   *keyhook.KeyValue
	}{{"prev", e.Prev}, {"last", e.Last}} {
		if o.kv != nil {
			fmt.Fprintf(&b, " %s=%s@%d", o.name, o.kv.Value, o.kv.Revision)
		}
	}
	return b.String()
}

func brief(events []*keyhook.Event) string {
	var lines []string
	for i, e := range events {
		if i == 20 {
			lines = append(lines, "...")
			break
		}
		lines = append(lines, describe(e))
	}
	return "\n" + strings.Join(lines, "\n")
}

func equal(t testing.TB, events []*keyhook.Event, want ...string) {
	t.Helper()
	var got []string
	for _, e := range events {
		got = append(got, describe(e))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
