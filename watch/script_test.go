package watch

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// script is an etcd that says what a test tells it to: one slice of steps for
// each stream.
type script struct {
	mu       sync.Mutex
	revision int64
	streams  [][]any // *etcdserverpb.WatchResponse, error, or a channel to wait for
	opened   []int64 // the revisions that streams began at
	cut      []bool  // whether those streams were asked for in fragments
	asked    int     // requests for progress
	reads    int     // of single keys
	heads    int     // reads of the revision
}

func (s *script) head(context.Context, keyhook.Range) (head, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads++
	return head{cluster: 1, revision: s.revision}, nil
}

func (s *script) at(context.Context, []byte, int64) (*mvccpb.KeyValue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return nil, errCompacted
}

func (s *script) page(context.Context, keyhook.Range, int64, int, int, bool) (page, error) {
	return page{}, rpctypes.ErrGRPCTimeout // nobody learns the compacted revision
}

func (s *script) values(context.Context, [][]byte, int64, int) ([]*mvccpb.KeyValue, error) {
	return nil, errCompacted
}

func (s *script) keys(context.Context, keyhook.Range, int64, int) ([]*mvccpb.KeyValue, error) {
	return nil, errCompacted
}

func (s *script) versions(context.Context) map[string]string {
	return map[string]string{"http://a:2379": "3.5.17", "http://b:2379": "3.7.3"}
}

func (s *script) watch(ctx context.Context, _ keyhook.Range, rev int64, fragments bool) (stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, rev)
	s.cut = append(s.cut, fragments)
	st := &scripted{ctx: ctx, s: s}
	if len(s.streams) > 0 {
		st.steps, s.streams = s.streams[0], s.streams[1:]
	}
	return st, nil
}

type scripted struct {
	ctx   context.Context //nolint:containedctx // a stream is what its context is
	s     *script
	steps []any
}

func (s *scripted) recv() (*etcdserverpb.WatchResponse, error) {
	for len(s.steps) > 0 {
		step := s.steps[0]
		s.steps = s.steps[1:]
		switch step := step.(type) {
		case *etcdserverpb.WatchResponse:
			return step, nil
		case error:
			return nil, step
		case chan struct{}:
			select {
			case <-step:
			case <-s.ctx.Done():
				return nil, s.ctx.Err()
			}
		}
	}
	<-s.ctx.Done() // idle
	return nil, s.ctx.Err()
}

func (s *scripted) requestProgress() error {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.s.asked++
	return nil
}

var created = &etcdserverpb.WatchResponse{Created: true, Header: &etcdserverpb.ResponseHeader{Revision: 1}}

// puts is a response with the first version of a key of its own for each revision.
func puts(revs ...int64) *etcdserverpb.WatchResponse {
	resp := &etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 1000}}
	for _, rev := range revs {
		resp.Events = append(resp.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{
			Key: []byte{'k', byte(rev)}, Value: []byte("v"), ModRevision: rev, CreateRevision: rev, Version: 1,
		}})
	}
	return resp
}

func fragment(resp *etcdserverpb.WatchResponse) *etcdserverpb.WatchResponse {
	resp.Fragment = true
	return resp
}

// play runs a watcher on a script, from after revision 1.
func play(t *testing.T, s *script, changes ...func(*Config)) *run {
	t.Helper()
	if s.revision == 0 {
		s.revision = 1000
	}
	l := newLedger(checkpointtest.NewMemory())
	r := &run{t: t, ledger: l, counts: new(counts), logs: new(logs), done: make(chan error, 1)}
	cfg := config(clientv3.NewCtxClient(t.Context()), l, prefix("k"))
	cfg.Identity.ClusterID, cfg.Observer = 1, r.counts
	cfg.HaltOnGap = true // a script lists nothing
	cfg.Logger = r.logs.logger()
	cfg.States = []checkpoint.RangeState{{Range: prefix("k"), Position: keyhook.After(1)}}
	for _, change := range changes {
		change(&cfg)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r.Watcher = newWatcher(cfg, s)
	r.start()
	return r
}

func (s *script) began(t *testing.T, want ...int64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.opened) < len(want) {
		t.Fatalf("streams began at %v, not %v", s.opened, want)
	}
	for i, rev := range want {
		if s.opened[i] != rev {
			t.Fatalf("streams began at %v, not %v", s.opened, want)
		}
	}
}

func revisions(events []*keyhook.Event) []int64 {
	var revs []int64
	for _, e := range events {
		revs = append(revs, e.Revision)
	}
	return revs
}

func TestHoweverAStreamEndsTheNextBeginsAtThePosition(t *testing.T) {
	for name, end := range map[string]any{
		"bare":             io.EOF,
		"by etcd":          &etcdserverpb.WatchResponse{Canceled: true},
		"with a reason":    &etcdserverpb.WatchResponse{Canceled: true, CancelReason: "etcdserver: mvcc: watcher is gone"},
		"without a leader": rpctypes.ErrGRPCNoLeader,
		"with its token":   &etcdserverpb.WatchResponse{Canceled: true, Created: true, CancelReason: rpctypes.ErrGRPCInvalidAuthToken.Error()},
		"halted":           rpctypes.ErrGRPCUnhealthy,
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{streams: [][]any{
				{created, puts(2, 3), end},
				{end},
				{created, fragment(puts(4, 5, 5)), end},
				{created, puts(5, 5, 5, 6)},
			}}
			r := play(t, s)
			events := r.ledger.wait(t, 7)
			if got := revisions(events); !slices.Equal(got, []int64{2, 3, 4, 5, 5, 5, 6}) {
				t.Fatal(got)
			}
			s.began(t, 2, 4, 4, 5)
			for i, e := range events[3:6] { // of revision 5, from two streams
				if e.Occurrence != i {
					t.Fatalf("occurrence %d: %s", e.Occurrence, describe(e))
				}
			}
			r.awaitReady()
		})
	}
}

// Fragments cost etcd dear, so they are asked for only while they are needed.
func TestFragmentsAreAskedForOnlyWhereResponsesAreTooLarge(t *testing.T) {
	s := &script{streams: [][]any{
		{created, puts(2), errTooLarge},
		{created, fragment(puts(3)), puts(3, 4), io.EOF}, // etcd is at 1000
		{created, puts(5, 1000), io.EOF},
		{created, puts(1001)},
	}}
	r := play(t, s)
	if got := revisions(r.ledger.wait(t, 7)); !slices.Equal(got, []int64{2, 3, 3, 4, 5, 1000, 1001}) {
		t.Fatal(got)
	}
	s.began(t, 2, 3, 5, 1001)
	s.mu.Lock()
	defer s.mu.Unlock()
	if want := []bool{false, true, true, false}; !slices.Equal(s.cut[:4], want) {
		t.Fatalf("fragments asked for: %v, want %v", s.cut, want)
	}
}

func TestChangesThatEtcdSendsAgainAreDropped(t *testing.T) {
	s := &script{streams: [][]any{{created, puts(2, 3), puts(2), puts(3, 4)}}}
	r := play(t, s)
	if got := revisions(r.ledger.wait(t, 3)); len(got) != 3 || got[2] != 4 {
		t.Fatal(got)
	}
	r.awaitPosition(4)
	r.counts.do(func() {
		if r.counts.duplicates != 2 || r.counts.events != 3 || r.counts.position != 4 {
			t.Fatalf("counted %d duplicates, %d events, position %d", r.counts.duplicates, r.counts.events, r.counts.position)
		}
	})
}

func TestASilentStreamIsAskedForProgressAndReplaced(t *testing.T) {
	s := &script{streams: [][]any{{created, puts(2)}, {created, puts(3)}}}
	r := play(t, s, func(c *Config) { c.ProgressInterval, c.ProgressDeadline = time.Millisecond, 30*time.Millisecond })
	r.ledger.wait(t, 2)
	s.began(t, 2, 3)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == 0 {
		t.Fatal("no progress was asked for")
	}
	if !strings.Contains(r.logs.String(), "the watch is silent, progress is not answered") {
		t.Fatalf("log:\n%s", r.logs)
	}
}

// A watcher that begins after etcd's newest revision gets no answer to requests
// for progress until something is written.
func TestAStreamOfAnEtcdThatNobodyWritesToMayBeSilent(t *testing.T) {
	write := make(chan struct{})
	s := &script{revision: 1, streams: [][]any{{created, write, puts(2)}, {created, puts(3)}}}
	r := play(t, s, func(c *Config) { c.ProgressInterval, c.ProgressDeadline = time.Millisecond, 5*time.Millisecond })
	r.awaitReady()
	heads := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.heads
	}
	before := heads()
	r.await("silent for long", func(st Status) bool {
		if !st.Ready {
			t.Fatalf("no longer ready: %+v", st)
		}
		return heads() > before+3
	})
	s.began(t, 2)
	if strings.Contains(r.logs.String(), "progress is not answered") {
		t.Fatalf("log:\n%s", r.logs)
	}
	s.mu.Lock()
	s.revision = 3
	s.mu.Unlock()
	close(write)
	r.ledger.wait(t, 2) // of another stream: now silence is told
	s.began(t, 2, 3)
}

func TestCompactionInTheMiddleOfAWatchHalts(t *testing.T) {
	s := &script{streams: [][]any{{created, puts(2), &etcdserverpb.WatchResponse{Canceled: true, CompactRevision: 9}}}}
	r := play(t, s, func(c *Config) { c.RecheckInterval = time.Hour })
	e := r.awaitError(Compacted)
	if !strings.Contains(e.Error(), "the changes from revision 3 to 8") {
		t.Fatal(e)
	}
	r.ledger.wait(t, 1) // what was received is still admitted
	if gaps, _ := r.counts.seen(); r.Status().Compacted != 9 || len(gaps) != 1 {
		t.Fatalf("%+v, gaps %v", r.Status(), gaps)
	}
}

// The changes were sent before the compaction, which comes between the creation
// of the watch and the look at it.
func TestAWatchThatWasServedInTimeIsReadyThoughItsRevisionIsCompacted(t *testing.T) {
	for name, at := range map[string]int64{"a member like the others": 1000, "a member that lags": 1} {
		t.Run(name, func(t *testing.T) {
			begun := &etcdserverpb.WatchResponse{Created: true, Header: &etcdserverpb.ResponseHeader{Revision: at}}
			pause := make(chan struct{})
			s := &script{streams: [][]any{{begun, pause, puts(2)}}}
			r := play(t, s)
			r.await("the watch is created", func(st Status) bool {
				if st.Ready {
					t.Fatal("ready, though the revision is compacted and nothing was sent")
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.reads > 0
			})
			if r.Status().Ready {
				t.Fatal("ready, though the revision is compacted and nothing was sent")
			}
			close(pause)
			r.ledger.wait(t, 1)
			r.awaitReady()
		})
	}
}

func TestWhatWasQueuedDecidesWhereTheNextStreamBegins(t *testing.T) {
	s := &script{streams: [][]any{{created, puts(2), puts(3), puts(4), io.EOF}, {created, puts(5)}}}
	ready := make(chan struct{})
	var unblock func()
	r := play(t, s, func(c *Config) {
		l, ok := c.Consumer.(*ledger)
		if !ok {
			t.Fatal("another consumer")
		}
		unblock = l.block()
		s.streams[1] = append([]any{ready}, s.streams[1]...)
	})
	r.await("begun again", func(Status) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.opened) == 2
	})
	s.began(t, 2, 5) // though nothing is admitted yet
	close(ready)
	unblock()
	if got := revisions(r.ledger.wait(t, 4)); len(got) != 4 || got[3] != 5 {
		t.Fatal(got)
	}
}

func TestAConsumerThatFailsEndsRun(t *testing.T) {
	s := &script{streams: [][]any{{created, puts(2)}}}
	l := newLedger(checkpointtest.NewMemory())
	l.failure = errors.New("deposed")
	cfg := config(clientv3.NewCtxClient(t.Context()), l, prefix("k"))
	cfg.Identity.ClusterID = 1
	cfg.States = []checkpoint.RangeState{{Range: prefix("k"), Position: keyhook.After(1)}}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s.revision = 10
	w := newWatcher(cfg, s)
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "deposed") {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); err == nil {
		t.Fatal("Run ran twice")
	}
}

func TestOldServersAreWarnedAboutOnce(t *testing.T) {
	r := play(t, &script{streams: [][]any{{created}}}, func(c *Config) { c.ProbeInterval = time.Millisecond })
	r.await("warned", func(Status) bool { return strings.Contains(r.logs.String(), "GHSA-xg4h-6gfc-h4m8") })
	r.stop()
	log := r.logs.String()
	if n := strings.Count(log, "known defect"); n != len(knownDefects("3.5.17")) {
		t.Fatalf("%d warnings:\n%s", n, log)
	}
	if !strings.Contains(log, "etcd-io/etcd#19179") || strings.Contains(log, "http://b:2379") {
		t.Fatal(log)
	}
}
