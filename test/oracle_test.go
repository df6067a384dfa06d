package test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/load"
	"keyhook/test/oracle"
)

// The oracle is only worth something if it reads what etcd holds: a watch from
// the first revision must tell the same, and a compaction must lose nothing.
func TestTheOracleReadsWhatEtcdHolds(t *testing.T) {
	b := setUp(t, time.Minute)
	client := b.etcd.Client()
	mix := &load.Mix{Client: client, Seed: seed(t), Prefix: "/k/", Keys: 20}
	b.must(mix.Run(b.ctx, 300))
	compaction := b.etcd.Compact()
	mix.Seed++
	b.must(mix.Run(b.ctx, 300))

	sofar := b.etcd.HistorySoFar()
	var watched []*clientv3.Event
	for resp := range client.Watch(b.ctx, "/k/", clientv3.WithPrefix(), clientv3.WithRev(compaction+1)) {
		b.must(resp.Err())
		watched = append(watched, resp.Events...)
		if n := len(watched); n > 0 && watched[n-1].Kv.GetModRevision() == sofar.Revision() {
			break
		}
	}
	h := b.etcd.History()
	if len(h) != len(sofar) {
		t.Errorf("%d changes in the stopped etcd, %d in a snapshot before", len(h), len(sofar))
	}
	tail := h[len(h)-len(watched):]
	for i, ev := range watched {
		c, kv := tail[i], ev.Kv
		same := c.Key == string(kv.GetKey()) && c.Revision == kv.GetModRevision() && (c.Type == oracle.Delete) == (ev.Type == clientv3.EventTypeDelete)
		if same && c.Type == oracle.Put {
			same = c.Value == oracle.DigestOf(kv.GetValue()) && c.Created == kv.GetCreateRevision() && c.Version == kv.GetVersion() && c.Lease == kv.GetLease()
		}
		if !same {
			t.Fatalf("the history has %v where the watch has %v", c, ev)
		}
	}
	if len(watched) < 300 {
		t.Errorf("only %d changes watched", len(watched))
	}
	// Whatever etcd held of a key before, the key's version counts it.
	for _, c := range h {
		switch {
		case c.Type == oracle.Delete && c.Prev == nil:
			t.Errorf("%v deletes nothing", c)
		case c.Type == oracle.Put && c.Prev == nil && c.Version != 1,
			c.Type == oracle.Put && c.Prev != nil && c.Version != c.Prev.Version+1:
			t.Errorf("%v has version %d, before: %v", c, c.Version, c.Prev)
		}
	}
}
