package watch

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
)

// stale is an etcd of which one member lags, the one that serves watches: it
// answers whatever it is asked, but tells of nothing behind its revision.
type stale struct {
	*script
	stands int64
}

func (s *stale) page(context.Context, keyhook.Range, int64, int, int, bool) (page, error) {
	return page{}, errCompacted // says another member
}

func (s *stale) watch(ctx context.Context, _ keyhook.Range, _ int64, _ bool) (stream, error) {
	return &staleStream{ctx: ctx, at: s.stands, asked: make(chan struct{}, 1)}, nil
}

type staleStream struct {
	ctx   context.Context //nolint:containedctx // a stream is what its context is
	at    int64
	asked chan struct{}
}

func (s *staleStream) recv() (*etcdserverpb.WatchResponse, error) {
	select {
	case <-s.asked:
		return &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: s.at}}, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *staleStream) requestProgress() error {
	notify(s.asked)
	return nil
}

// ofStale returns a runner that reads from an etcd at revision 1000, watches a
// member at revision 10, and has the patience d.
func ofStale(t *testing.T, d time.Duration) *runner {
	t.Helper()
	cfg := config(clientv3.NewCtxClient(t.Context()), newLedger(checkpointtest.NewMemory()), prefix("k"))
	cfg.Identity.ClusterID, cfg.RequestTimeout, cfg.ProgressDeadline = 1, d, d
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	w := newWatcher(cfg, &stale{script: &script{revision: 1000}, stands: 10})
	return newRunner(w.shared, prefix("k"))
}

// inTime fails the test if something waits for ever.
func inTime(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errors.New("it was waited for too long"))
	t.Cleanup(cancel)
	return ctx
}

// The member has not heard of the compaction: it serves a watch from the first
// revision on, and has nothing to say.
func TestACompactionThatALaggingMemberDoesNotKnowIsNotWaitedFor(t *testing.T) {
	ctx := inTime(t)
	_, err := ofStale(t, 20*time.Millisecond).compactedRevision(ctx, prefix("k"))
	if err == nil || ctx.Err() != nil {
		t.Fatalf("%v, %v", err, context.Cause(ctx))
	}
}

// Its progress is no sign of life to a segment that lies behind it.
func TestASegmentThatALaggingMemberDoesNotHaveIsGivenUp(t *testing.T) {
	ctx := inTime(t)
	c := &catchUp{runner: ofStale(t, 4*askInterval)}
	if err := c.read(ctx, &segment{start: 11, end: 21}); !errors.Is(err, errSilent) {
		t.Fatalf("%v, %v", err, context.Cause(ctx))
	}
}
