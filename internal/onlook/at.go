package onlook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
)

// lookBack is how many revisions are looked through at most for what a key held
// before it was deleted: etcd goes through all keys of them.
const lookBack = 20_000

// progressInterval is between two questions whether a watch has come as far as
// is wanted.
const progressInterval = 100 * time.Millisecond

// At returns the changes that revision rev made in the ranges, in order within
// each range.
func At(ctx context.Context, client *clientv3.Client, ranges []keyhook.Range, rev int64) ([]*keyhook.Event, error) {
	now, err := Revision(ctx, client, ranges)
	if err != nil {
		return nil, err
	}
	if rev > now {
		return nil, fmt.Errorf("etcd is at revision %d only", now)
	}
	var all []*keyhook.Event
	for _, r := range ranges {
		var found []*clientv3.Event
		err := span(ctx, client, r, rev, rev, func(e *clientv3.Event) { found = append(found, e) })
		if err != nil {
			return nil, err
		}
		for _, events := range newPast().convert(found, time.Now()) {
			all = append(all, events...)
		}
	}
	for _, ev := range all {
		if ev.Type == keyhook.Put && ev.Prev == nil {
			if ev.Last, err = last(ctx, client, ev); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// last looks back for what the key of a created one held before.
func last(ctx context.Context, client *clientv3.Client, ev *keyhook.Event) (*keyhook.KeyValue, error) {
	from := max(1, ev.Revision-lookBack)
	for {
		var kv *keyhook.KeyValue
		err := span(ctx, client, keyhook.Single(ev.Key), from, ev.Revision-1, func(e *clientv3.Event) {
			if e.Type == mvccpb.Event_DELETE {
				kv = before(e.PrevKv)
			}
		})
		var compacted *CompactedError
		if errors.As(err, &compacted) && compacted.Revision > from {
			from = compacted.Revision
			if from < ev.Revision {
				continue
			}
			return nil, nil
		}
		return kv, err
	}
}

// span calls each with the changes of r between two revisions, both included,
// which are not in the future.
func span(ctx context.Context, client *clientv3.Client, r keyhook.Range, from, to int64, each func(*clientv3.Event)) error {
	if from > to {
		return nil
	}
	// Progress is asked for by the context that the watch was made with.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := client.Watch(ctx, string(r.Start), within(r, clientv3.WithRev(from), clientv3.WithPrevKV())...)
	asking := time.NewTicker(progressInterval)
	defer asking.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-asking.C:
			// Is answered once the watch has caught up, or not at all.
			if err := client.RequestProgress(ctx); err != nil {
				return fmt.Errorf("ask etcd for progress: %w", err)
			}
		case resp, ok := <-responses:
			if !ok {
				return fmt.Errorf("etcd has ended the watch of %s", r)
			}
			if err := failure(r, resp); err != nil {
				return err
			}
			for _, e := range resp.Events {
				if e.Kv.ModRevision > to {
					return nil
				}
				each(e)
			}
			if resp.IsProgressNotify() && resp.Header.Revision >= to {
				return nil
			}
		}
	}
}
