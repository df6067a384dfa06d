package onlook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"keyhook"
)

// Follow calls each with the changes of the ranges from revision from on (0:
// from now on) until ctx ends, which is no error, or each returns one. Changes of
// one range come in order, those of one revision and range together. each is
// called by one goroutine at a time.
func Follow(ctx context.Context, client *clientv3.Client, ranges []keyhook.Range, from int64, each func([]*keyhook.Event) error) error {
	if from == 0 {
		// All ranges begin at one moment.
		now, err := Revision(ctx, client, ranges)
		if err != nil {
			return ended(ctx, err)
		}
		from = now + 1
	}
	group, inner := errgroup.WithContext(ctx)
	responses := make(chan []*clientv3.Event)
	for _, r := range ranges {
		group.Go(func() error { return receive(inner, client, r, from, responses) })
	}
	group.Go(func() error {
		past := newPast()
		for {
			select {
			case <-inner.Done():
				return inner.Err()
			case all := <-responses:
				for _, events := range past.convert(all, time.Now()) {
					if err := each(events); err != nil {
						return err
					}
				}
			}
		}
	})
	return ended(ctx, group.Wait())
}

// ended returns err unless it only says that ctx has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, clientv3.ErrNoAvailableEndpoints)) {
		return nil
	}
	return err
}

// receive hands on what the responses of one range hold.
func receive(ctx context.Context, client *clientv3.Client, r keyhook.Range, from int64, into chan<- []*clientv3.Event) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range client.Watch(clientv3.WithRequireLeader(ctx), string(r.Start), within(r, clientv3.WithRev(from), clientv3.WithPrevKV())...) {
		if err := failure(r, resp); err != nil {
			return err
		}
		if len(resp.Events) == 0 {
			continue
		}
		select {
		case into <- resp.Events:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("etcd has ended the watch of %s", r)
}

// failure is what is wrong with a response, if anything is.
func failure(r keyhook.Range, resp clientv3.WatchResponse) error {
	if resp.CompactRevision > 0 {
		return &CompactedError{Revision: resp.CompactRevision}
	}
	if err := resp.Err(); err != nil {
		return fmt.Errorf("watch %s: %w", r, err)
	}
	return nil
}

// CompactedError means that etcd has forgotten what was asked for.
type CompactedError struct{ Revision int64 } // the oldest one that it still has

func (e *CompactedError) Error() string {
	return fmt.Sprintf("etcd has compacted its history up to revision %d", e.Revision)
}

// within returns the options of a request about r.
func within(r keyhook.Range, more ...clientv3.OpOption) []clientv3.OpOption {
	if len(r.End) == 0 {
		return append(more, clientv3.WithFromKey())
	}
	return append(more, clientv3.WithRange(string(r.End)))
}

// Revision returns the revision that etcd is at, by a read of the first of the
// ranges: the permissions that watching them needs suffice.
func Revision(ctx context.Context, client *clientv3.Client, ranges []keyhook.Range) (int64, error) {
	if len(ranges) == 0 {
		return 0, errors.New("there is nothing to look at")
	}
	resp, err := client.Get(ctx, string(ranges[0].Start), within(ranges[0], clientv3.WithCountOnly())...)
	if err != nil {
		return 0, fmt.Errorf("read from etcd: %w", err)
	}
	return resp.Header.Revision, nil
}

// maxPast bounds the bytes of deleted values that are remembered.
const maxPast = 8 << 20

// past remembers what deleted keys held, in two generations: when the young one
// has grown to half of the bound, the old one is forgotten.
type past struct {
	young, old map[string]*keyhook.KeyValue
	bytes      int // of the young
}

func newPast() *past {
	return &past{young: make(map[string]*keyhook.KeyValue)}
}

func (p *past) get(key []byte) *keyhook.KeyValue {
	if kv := p.young[string(key)]; kv != nil {
		return kv
	}
	return p.old[string(key)]
}

func (p *past) put(key []byte, kv *keyhook.KeyValue) {
	if p.bytes += len(key) + len(kv.Value) + 100; p.bytes > maxPast/2 {
		p.young, p.old, p.bytes = make(map[string]*keyhook.KeyValue), p.young, len(key)+len(kv.Value)+100
	}
	p.young[string(key)] = kv
}

// convert returns changes as the rules see them, those of one revision together.
func (p *past) convert(all []*clientv3.Event, now time.Time) [][]*keyhook.Event {
	var revisions [][]*keyhook.Event
	occurrences := map[string]int{}
	for _, e := range all {
		ev := &keyhook.Event{Type: keyhook.Put, Key: e.Kv.Key, Revision: e.Kv.ModRevision, Time: now}
		if e.Type == mvccpb.Event_DELETE {
			ev.Type = keyhook.Delete
		} else {
			ev.Value, ev.CreateRevision, ev.Version, ev.Lease = e.Kv.Value, e.Kv.CreateRevision, e.Kv.Version, e.Kv.Lease
		}
		ev.Prev = before(e.PrevKv)
		ev.Last = ev.Prev
		if ev.Last == nil {
			ev.Last = p.get(ev.Key)
		}
		if ev.Type == keyhook.Delete && ev.Prev != nil {
			p.put(ev.Key, ev.Prev)
		}
		n := len(revisions)
		if n == 0 || revisions[n-1][0].Revision != ev.Revision {
			clear(occurrences)
			revisions = append(revisions, nil)
			n++
		}
		ev.Occurrence = occurrences[string(ev.Key)]
		occurrences[string(ev.Key)]++
		revisions[n-1] = append(revisions[n-1], ev)
	}
	return revisions
}

func before(kv *mvccpb.KeyValue) *keyhook.KeyValue {
	if kv == nil {
		return nil
	}
	return &keyhook.KeyValue{
		Value: kv.Value, Revision: kv.ModRevision, CreateRevision: kv.CreateRevision, Version: kv.Version, Lease: kv.Lease,
	}
}
