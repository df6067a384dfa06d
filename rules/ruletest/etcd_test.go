package ruletest

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/internal/etcdtest"
	"keyhook/watch"
)

// The model gives the changes that a real etcd gives, as the watch of keyhook
// hands them on: revisions, versions, leases, what keys held before, the order
// within a transaction, and what is refused.
func TestTheModelIsLikeEtcd(t *testing.T) {
	server := etcdtest.Start(t)
	client := server.Client()
	seen := newOnlooker()
	cluster, err := watch.ClusterID(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(watch.Config{
		Client: client, Ranges: []keyhook.Range{keyhook.Prefix(nil)}, Start: watch.Earliest,
		Identity: checkpoint.Identity{Source: "/etcd/test", ClusterID: cluster}, Mirror: seen, Consumer: seen,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	const seed = 20260101
	p := pair{t: t, client: client, model: newEtcd(), random: rand.New(rand.NewPCG(seed, seed))}
	for range 500 {
		p.step()
	}
	got := seen.wait(t, len(p.events))
	if d := cmp.Diff(got, p.events, cmpopts.IgnoreFields(keyhook.Event{}, "Time"), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("seed %d: etcd (-) and the model (+) differ:\n%s", seed, d)
	}
	if p.refused == 0 || p.expired == 0 || p.empty == 0 {
		t.Errorf("the test has not seen everything: %d refused, %d leases, %d without a change", p.refused, p.expired, p.empty)
	}
}

// pair does the same to a real etcd and to the model.
type pair struct {
	t      *testing.T
	client *clientv3.Client
	model  *etcd
	random *rand.Rand
	leases []int64
	events []*keyhook.Event

	refused, expired, empty int
}

func (p *pair) step() {
	switch n := p.random.IntN(20); {
	case n == 0 || len(p.leases) == 0:
		granted, err := p.client.Grant(p.t.Context(), 3600)
		if err != nil {
			p.t.Fatal(err)
		}
		p.leases = append(p.leases, int64(granted.ID))
		p.model.grant(int64(granted.ID))
	case n == 1:
		id := p.leases[p.random.IntN(len(p.leases))]
		if _, err := p.client.Revoke(p.t.Context(), clientv3.LeaseID(id)); err != nil && p.model.leases[id] {
			p.t.Fatal(err)
		}
		events := p.model.revoke(id, time.Time{})
		if len(events) > 0 {
			p.expired++
		}
		p.events = append(p.events, events...)
	default:
		p.transaction()
	}
}

func (p *pair) transaction() {
	var ops []operation
	var wanted []clientv3.Op
	for range 1 + p.random.IntN(4) {
		key := fmt.Sprintf("/%c/%c", 'a'+p.random.IntN(3), 'a'+p.random.IntN(4))
		o := operation{key: key}
		switch p.random.IntN(6) {
		case 0:
			o.kind = opDelete
			wanted = append(wanted, clientv3.OpDelete(key))
		case 1:
			o.kind, o.key = opDeletePrefix, key[:2+p.random.IntN(2)]
			wanted = append(wanted, clientv3.OpDelete(o.key, clientv3.WithPrefix()))
		default:
			o.value = fmt.Appendf(nil, "%d", p.random.IntN(1000))
			var options []clientv3.OpOption
			if p.random.IntN(2) == 0 {
				o.lease = p.leases[p.random.IntN(len(p.leases))]
				options = append(options, clientv3.WithLease(clientv3.LeaseID(o.lease)))
			}
			wanted = append(wanted, clientv3.OpPut(key, string(o.value), options...))
		}
		ops = append(ops, o)
	}
	resp, err := p.client.Txn(p.t.Context()).Then(wanted...).Commit()
	events, modelErr := p.model.txn(ops, time.Time{})
	if (err != nil) != (modelErr != nil) {
		p.t.Fatalf("%+v: etcd says %v, the model %v", ops, err, modelErr)
	}
	if err != nil {
		p.refused++
		return
	}
	if resp.Header.Revision != p.model.revision {
		p.t.Fatalf("%+v: etcd is at revision %d, the model at %d", ops, resp.Header.Revision, p.model.revision)
	}
	if len(events) == 0 {
		p.empty++
	}
	p.events = append(p.events, events...)
}

// onlooker is a mirror, and keeps what the watch hands on.
type onlooker struct {
	mu      sync.Mutex
	mirror  map[string]*checkpoint.Entry
	events  []*keyhook.Event
	changed chan struct{}
}

var (
	_ watch.Consumer    = (*onlooker)(nil)
	_ checkpoint.Mirror = (*onlooker)(nil)
)

func newOnlooker() *onlooker {
	return &onlooker{mirror: make(map[string]*checkpoint.Entry), changed: make(chan struct{}, 1)}
}

func (o *onlooker) Admit(_ context.Context, b *watch.Batch) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, b.Events...)
	for _, c := range b.Mirror {
		o.mirror[string(c.Key)] = c.Entry
	}
	if b.Durable != nil {
		b.Durable()
	}
	select {
	case o.changed <- struct{}{}:
	default:
	}
	return nil
}

func (o *onlooker) Flush(context.Context) error { return nil }

func (o *onlooker) Identify(context.Context, checkpoint.Identity) error { return nil }

func (o *onlooker) Lookup(_ context.Context, _ uint32, key []byte) (*checkpoint.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mirror[string(key)], nil
}

func (o *onlooker) LookupAll(_ context.Context, _ uint32, keys [][]byte, _ int) (found []*checkpoint.Entry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		found = append(found, o.mirror[string(key)])
	}
	return found, nil
}

func (o *onlooker) Entries(context.Context, uint32, keyhook.Range) iter.Seq2[checkpoint.KeyEntry, error] {
	return func(func(checkpoint.KeyEntry, error) bool) {}
}

// wait returns the first n changes.
func (o *onlooker) wait(t *testing.T, n int) []*keyhook.Event {
	t.Helper()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for {
		o.mu.Lock()
		got := o.events
		o.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-o.changed:
		case <-patience.C:
			t.Fatalf("%d of %d changes have come", len(got), n)
		}
	}
}

// A key is written once in a transaction, and needs a name.
func TestWhatEtcdRefuses(t *testing.T) {
	e := newEtcd()
	for name, ops := range map[string][]operation{
		"writes a key twice": {{key: "a"}, {key: "a"}},
		"writes and deletes": {{key: "a"}, {kind: opDeletePrefix, key: ""}},
		"no such lease":      {{key: "a", lease: 7}},
		"must not be empty":  {{key: ""}},
	} {
		if _, err := e.txn(ops, time.Time{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e.revision != 1 || len(e.keys) != 0 {
		t.Error("what was refused has left something behind")
	}
}
