package watch

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
)

func TestChangesArriveWithWhatTheKeyHeldBefore(t *testing.T) {
	f := newFixture(t)
	f.put("/a/old", "0")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/old", "1")
	f.put("/b/other", "x")
	f.put("/a/new", "1")
	f.put("/a/new", "2")
	f.del("/a/new")
	f.put("/a/new", "3")
	f.del("/a/old")
	equal(t, l.wait(t, 6),
		"3 PUT /a/old=1 v2 c2 prev=0@2 last=0@2",
		"5 PUT /a/new=1 v1 c5",
		"6 PUT /a/new=2 v2 c5 prev=1@5 last=1@5",
		"7 DELETE /a/new prev=2@6 last=2@6",
		"8 PUT /a/new=3 v1 c8 last=2@6",
		"9 DELETE /a/old prev=1@3 last=1@3",
	)
}

func TestTheHeaderOfAResponseIsNoPosition(t *testing.T) {
	const revisions = 2500
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")))
	r.awaitReady()
	r.stop()

	var first int64
	for i := range revisions {
		rev := f.put(fmt.Sprintf("/a/%d", i%100), fmt.Sprint(i))
		if i == 0 {
			first = rev
		}
	}
	// Each time, a crash leaves behind what the first batches made durable: with
	// a backlog of more than 1000 revisions, etcd's responses say in their
	// headers that they are far ahead of their events.
	var got []*keyhook.Event
	for len(got) < revisions {
		before := len(got)
		l = newLedger(l.mem)
		r = begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.BatchEvents = 100 })
		l.wait(t, 300)
		next := r.crash()
		position := next.states(t)[0].Position
		for _, e := range l.admitted() {
			if e.Revision < position.Next {
				got = append(got, e)
			}
		}
		l = next
		if len(got) == before {
			t.Fatal("nothing became durable")
		}
		if len(got)+300 > revisions {
			break
		}
	}
	l = newLedger(l.mem)
	begin(t, l, config(f.Client(), l, prefix("/a/")))
	got = append(got, l.wait(t, revisions-len(got))...)
	for i, e := range got {
		if e.Revision != first+int64(i) || string(e.Value) != fmt.Sprint(i) {
			t.Fatalf("change %d is %s", i, describe(e))
		}
		if i >= 100 && (e.Prev == nil || string(e.Prev.Value) != fmt.Sprint(i-100)) {
			t.Fatalf("change %d is %s", i, describe(e))
		}
	}
}

// The end of a lease deletes all its keys at one revision.
func TestARevisionOfAnySizeIsResumedInItsMiddle(t *testing.T) {
	const keys = leased
	f := newFixture(t)
	value := string(slices.Repeat([]byte("v"), 256))
	lease, err := f.kv.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/a/%06d", j), value, clientv3.WithLease(lease.ID)))
		}
		f.txn(ops...)
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(*Config) { l.most = keys / 2 })
	r.awaitReady()
	rev := f.revision() + 1
	// Where that takes etcd longer than it lets a request wait, the client asks
	// again, and may be told that the lease is gone.
	if _, err := f.kv.Revoke(t.Context(), lease.ID); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) && !errors.Is(err, rpctypes.ErrTimeout) {
		t.Fatal(err)
	}

	l.wait(t, keys/2)
	next := r.crash()
	st := next.states(t)[0]
	if st.Position.Next != rev || st.Position.Admitted < keys/2-2000 {
		t.Fatalf("after the crash, the position is %s, the revision %d", st.Position, rev)
	}
	got := l.admitted()[:st.Position.Admitted]
	for _, n := range l.sizes {
		if n > 1000 {
			t.Fatalf("a batch has %d events", n)
		}
	}
	begin(t, next, config(f.Client(), next, prefix("/a/")))
	got = append(got, next.wait(t, keys-len(got))...)
	if len(got) != keys {
		t.Fatalf("%d changes", len(got))
	}
	for i, e := range got {
		if e.Type != keyhook.Delete || e.Revision != rev || string(e.Key) != fmt.Sprintf("/a/%06d", i) || e.Occurrence != 0 {
			t.Fatalf("change %d is %s", i, describe(e))
		}
		if e.Prev == nil || string(e.Prev.Value) != value || e.Prev.Lease != int64(lease.ID) {
			t.Fatalf("change %d has no last value", i)
		}
	}
}

func TestChangesOfOneKeyInOneRevisionAreTold(t *testing.T) {
	f := newFixture(t)
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.Client(), l, prefix("/a/")), func(c *Config) { c.BatchEvents = 1 })
	r.awaitReady()
	f.put("/a/k", "0")
	// etcd refuses to write and delete a key in one transaction, unless it does
	// not see that: nested transactions beside each other.
	nested := func(op clientv3.Op) clientv3.Op { return clientv3.OpTxn(nil, []clientv3.Op{op}, nil) }
	f.txn(nested(clientv3.OpPut("/a/k", "1")), nested(clientv3.OpDelete("/a/k")), clientv3.OpPut("/a/l", "2"))
	f.put("/a/k", "3")
	equal(t, l.wait(t, 5),
		"2 PUT /a/k=0 v1 c2",
		"3 PUT /a/k=1 v2 c2 prev=0@2 last=0@2",
		"3 DELETE /a/k#1 prev=1@3 last=1@3",
		"3 PUT /a/l=2 v1 c3",
		"4 PUT /a/k=3 v1 c4 last=1@3",
	)
	// Read again from the middle of the revision, the occurrence is the same.
	next := newLedger(checkpointtest.NewMemory())
	begin(t, next, config(f.Client(), next, prefix("/a/")), func(c *Config) {
		st := l.states(t)
		st[0].Position, st[0].Anchor = keyhook.Position{Next: 3, Admitted: 1}, nil
		c.States = st
	})
	if e := next.wait(t, 2)[0]; e.Occurrence != 1 || e.Type != keyhook.Delete {
		t.Fatalf("read again: %s", describe(e))
	}
}
