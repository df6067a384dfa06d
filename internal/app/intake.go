package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/internal/config"
	"keyhook/internal/telemetry"
	"keyhook/watch"
)

// intake is what brings in work: the watch, and new rules.
func (r *run) intake(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return r.follow(inner) })
	group.Go(func() error { return r.reloads(inner) })
	err := group.Wait()
	r.stopping.Store(true)
	if err == nil {
		r.log.Info("stopping: no further changes are read; what is in flight may finish", "cause", context.Cause(ctx))
	}
	return err
}

// follow connects to etcd, however long that takes, makes the identity of its
// history durable, and watches.
func (r *run) follow(ctx context.Context) error {
	cluster, err := r.connect(ctx)
	if err != nil {
		return nil // the run ends
	}
	loaded := r.dispatcher.Checkpoint()
	id := checkpoint.Identity{Source: r.opts.Plan.Config.Source, ClusterID: cluster, Epoch: loaded.Epoch}
	switch {
	case id.Source != "":
	case isDefaultSource(loaded.Source): // also if another cluster has taken the place of the first
		id.Source = loaded.Source
	default:
		id.Source = DefaultSource(cluster)
	}
	if loaded.Source != "" && loaded.Source != id.Source {
		r.log.Warn("the source has another name: a change that is read again after a crash gets another id than before",
			"source", id.Source, "before", loaded.Source)
	}
	if err := r.consumer.Identify(ctx, id); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("make the source durable: %w", err)
	}
	r.sourceName.Store(&id.Source)

	w, err := r.newWatcher(id, loaded.Ranges)
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

const defaultSource = "/etcd/%x"

// DefaultSource names an etcd after the id of its cluster.
func DefaultSource(cluster uint64) string { return fmt.Sprintf(defaultSource, cluster) }

func isDefaultSource(source string) bool {
	var cluster uint64
	n, err := fmt.Sscanf(source, defaultSource, &cluster)
	return n == 1 && err == nil && source == DefaultSource(cluster)
}

func (r *run) newWatcher(id checkpoint.Identity, states []checkpoint.RangeState) (*watch.Watcher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, err := watch.New(watch.Config{
		Client:    r.client,
		Ranges:    r.rules.ranges,
		States:    states,
		Start:     r.opts.Plan.Config.Etcd.Start,
		HaltOnGap: r.opts.Plan.Config.Etcd.OnGap == config.Halt,
		Identity:  id,
		Mirror:    r.store,
		Consumer:  r.consumer,
		Logger:    r.log,
		Observer:  observer{r.metrics},
	})
	if err == nil {
		r.warnGivenUp(states, r.rules.ranges)
		r.watcher = w
	}
	return w, err
}

const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMax   = 5 * time.Second
)

// connect makes r.client and returns the id of the cluster that the checkpoint
// belongs to, or is to belong to. It tries until ctx ends.
func (r *run) connect(ctx context.Context) (uint64, error) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(reconnectFirst),
		backoff.WithMaxInterval(reconnectMax),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		client, cluster, err := r.reach(ctx)
		if err == nil {
			r.mu.Lock()
			r.client, r.etcdErr, r.etcdHint = client, nil, ""
			r.mu.Unlock()
			return cluster, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		r.noteEtcd(err)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, ctx.Err()
		}
	}
}

// reach makes one attempt. A checkpoint that knows its cluster needs no answer
// from etcd yet: the watch holds it against what it finds.
func (r *run) reach(ctx context.Context) (*clientv3.Client, uint64, error) {
	client, err := watch.Connect(ctx, ClientConfig(&r.opts.Plan.Config.Etcd))
	if err != nil {
		return nil, 0, err
	}
	if known := r.dispatcher.Checkpoint().ClusterID; known != 0 {
		return client, known, nil
	}
	r.mu.Lock()
	ranges := r.rules.ranges
	r.mu.Unlock()
	cluster, err := clusterID(ctx, client, ranges)
	if err != nil {
		return nil, 0, errors.Join(err, client.Close())
	}
	return client, cluster, nil
}

// clusterID asks for the ranges in turn, as long as it may not read them.
func clusterID(ctx context.Context, client *clientv3.Client, ranges []keyhook.Range) (cluster uint64, err error) {
	for i := range ranges {
		cluster, err = watch.ClusterID(ctx, client, ranges[i:i+1])
		var e *watch.Error
		if err == nil || !errors.As(err, &e) || e.Kind != watch.PermissionDenied {
			break
		}
	}
	return cluster, err
}

var errNoEtcd = errors.New("etcd has not answered yet")

// head returns etcd's revision, read linearizably.
func (r *run) head(ctx context.Context) (int64, error) {
	r.mu.Lock()
	w := r.watcher
	r.mu.Unlock()
	if w == nil {
		return 0, errNoEtcd
	}
	return w.Head(ctx)
}

// noteEtcd remembers why etcd does not serve, and logs it when that changes.
func (r *run) noteEtcd(err error) {
	hint := ""
	if e, ok := errors.AsType[*watch.Error](err); ok {
		err, hint = e.Err, e.Hint // it concerns all ranges; a permission names its own
	}
	r.mu.Lock()
	known := r.etcdErr != nil && r.etcdErr.Error() == err.Error()
	r.etcdErr, r.etcdHint = err, hint
	r.mu.Unlock()
	if known {
		return
	}
	args := []any{"error", err}
	if hint != "" {
		args = append(args, "hint", hint)
	}
	r.log.Warn("etcd does not serve; trying on", args...)
}

func (r *run) closeClient() error {
	r.mu.Lock()
	client := r.client
	r.mu.Unlock()
	if client == nil {
		return nil
	}
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the etcd client: %w", err)
	}
	return nil
}

// ClientConfig returns what the configuration says of how to reach etcd.
func ClientConfig(e *config.Etcd) watch.ClientConfig {
	c := watch.ClientConfig{Endpoints: e.Endpoints, Username: e.Username, Password: e.Password.Reveal()}
	if e.TLS != (config.TLS{}) {
		c.TLS = &watch.TLSFiles{CAFile: e.TLS.CAFile, CertFile: e.TLS.CertFile, KeyFile: e.TLS.KeyFile}
	}
	return c
}

// observer counts what the watch tells. Positions and revisions are asked for
// when somebody wants to know them.
type observer struct{ metrics *telemetry.Metrics }

var _ watch.Observer = observer{}

func (o observer) Events(r keyhook.Range, n int)        { o.metrics.Events(r, n) }
func (o observer) Duplicates(r keyhook.Range, n int)    { o.metrics.Duplicates(r, n) }
func (o observer) Mismatches(r keyhook.Range, n int)    { o.metrics.Mismatches(r, n) }
func (o observer) Gap(keyhook.Range, keyhook.GapReason) { o.metrics.Gap() }
func (o observer) Audited(r keyhook.Range, keys, differing int) {
	o.metrics.Audited(r, keys, differing)
}
func (observer) Position(keyhook.Range, int64) {}
func (observer) Removed(keyhook.Range)         {}
func (observer) Revision(int64)                {}
func (observer) Compacted(int64)               {}
