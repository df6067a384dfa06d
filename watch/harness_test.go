package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
)

// patience ends tests that would wait for ever.
const patience = 60 * time.Second

// ledger is a consumer that commits to memory, and keeps what it admitted.
type ledger struct {
	mem *checkpointtest.Memory

	mu       sync.Mutex
	manual   bool // commit in Flush only
	sequence uint64
	batches  []*Batch // not committed yet
	events   []*keyhook.Event
	epochs   []uint64 // of the events
	gaps     []*keyhook.Gap
	sizes    []int         // of the batches with events
	blocked  chan struct{} // Admit waits until it is closed; nil: it does not
	failure  error
	changed  chan struct{} // closed and replaced with each change
}

func newLedger(mem *checkpointtest.Memory) *ledger {
	st, err := mem.Load(context.Background(), 0)
	if err != nil {
		panic(err) // memory cannot fail
	}
	return &ledger{mem: mem, sequence: st.Sequence, changed: make(chan struct{})}
}

func (l *ledger) Admit(ctx context.Context, b *Batch) error {
	l.mu.Lock()
	blocked, failure := l.blocked, l.failure
	l.mu.Unlock()
	if failure != nil {
		return failure
	}
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, b.Events...)
	if b.Gap != nil {
		l.gaps = append(l.gaps, b.Gap)
	}
	for range b.Events {
		l.epochs = append(l.epochs, b.Epoch)
	}
	if len(b.Events) > 0 {
		l.sizes = append(l.sizes, len(b.Events))
	}
	l.batches = append(l.batches, b)
	if !l.manual {
		if err := l.commit(ctx); err != nil {
			return err
		}
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *ledger) Flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.commit(ctx)
}

// commit makes all batches durable in one commit, as a dispatcher does.
func (l *ledger) commit(ctx context.Context) error {
	if len(l.batches) == 0 {
		return nil
	}
	c := &checkpoint.Commit{Sequence: l.sequence + 1}
	for _, b := range l.batches {
		for _, d := range b.Drop {
			c.Ranges = slices.DeleteFunc(c.Ranges, func(s checkpoint.RangeState) bool { return s.Range.Equal(d) })
			c.Mirror = slices.DeleteFunc(c.Mirror, func(m checkpoint.MirrorChange) bool { return d.Contains(m.Key) })
			c.DropRanges = append(c.DropRanges, d)
		}
		c.Mirror = append(c.Mirror, b.Mirror...)
		for _, st := range b.States {
			c.Ranges = slices.DeleteFunc(c.Ranges, func(s checkpoint.RangeState) bool { return s.Range.Equal(st.Range) })
			c.Ranges = append(c.Ranges, st)
		}
	}
	if err := l.mem.Commit(ctx, c); err != nil {
		return err
	}
	l.sequence++
	for _, b := range l.batches {
		if b.Durable != nil {
			b.Durable()
		}
	}
	l.batches = nil
	return nil
}

func (l *ledger) Identify(ctx context.Context, id checkpoint.Identity) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.commit(ctx); err != nil {
		return err
	}
	if l.failure != nil {
		return l.failure
	}
	l.sequence++
	return l.mem.Commit(ctx, &checkpoint.Commit{Sequence: l.sequence, Identity: &id})
}

// block makes Admit wait until the returned function is called.
func (l *ledger) block() (unblock func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	blocked := make(chan struct{})
	l.blocked = blocked
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.blocked = nil
		close(blocked)
	})
}

func (l *ledger) setManual(manual bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manual = manual
}

func (l *ledger) admitted() []*keyhook.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// wait returns the events once there are n of them.
func (l *ledger) wait(t testing.TB, n int) []*keyhook.Event {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		arrived, changed := len(l.events), l.changed
		l.mu.Unlock()
		if arrived >= n {
			return l.admitted()
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("%d of %d events arrived: %s", arrived, n, brief(l.admitted()))
		}
	}
}

// states are the durable ranges.
func (l *ledger) states(t testing.TB) []checkpoint.RangeState {
	t.Helper()
	return statesOf(t, l.mem)
}

func statesOf(t testing.TB, mem *checkpointtest.Memory) []checkpoint.RangeState {
	t.Helper()
	st, err := mem.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return st.Ranges
}

// identity is the durable one.
func (l *ledger) identity(t testing.TB) checkpoint.Identity {
	t.Helper()
	st, err := l.mem.Load(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return checkpoint.Identity{Source: st.Source, ClusterID: st.ClusterID, Epoch: st.Epoch}
}

// repaired returns the gap records so far.
func (l *ledger) repaired() []*keyhook.Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gaps)
}

// counts is an Observer.
type counts struct {
	mu                               sync.Mutex
	events, duplicates, mismatches   int
	audited, differing               int
	gaps                             []keyhook.GapReason
	position, revision, compactedRev int64
	removed                          []string
}

func (c *counts) Events(_ keyhook.Range, n int)     { c.do(func() { c.events += n }) }
func (c *counts) Duplicates(_ keyhook.Range, n int) { c.do(func() { c.duplicates += n }) }
func (c *counts) Mismatches(_ keyhook.Range, n int) { c.do(func() { c.mismatches += n }) }
func (c *counts) Gap(_ keyhook.Range, g keyhook.GapReason) {
	c.do(func() { c.gaps = append(c.gaps, g) })
}
func (c *counts) Audited(_ keyhook.Range, n, d int) {
	c.do(func() { c.audited += n; c.differing += d })
}
func (c *counts) Position(_ keyhook.Range, r int64) { c.do(func() { c.position = r }) }
func (c *counts) Removed(r keyhook.Range)           { c.do(func() { c.removed = append(c.removed, r.String()) }) }
func (c *counts) Revision(r int64)                  { c.do(func() { c.revision = r }) }
func (c *counts) Compacted(r int64)                 { c.do(func() { c.compactedRev = r }) }

func (c *counts) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// seen returns what was counted so far.
func (c *counts) seen() (gaps []keyhook.GapReason, mismatches int) {
	c.do(func() { gaps, mismatches = slices.Clone(c.gaps), c.mismatches })
	return gaps, mismatches
}

// logs collects log lines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// run is a running watcher.
type run struct {
	*Watcher
	t      testing.TB
	ledger *ledger
	counts *counts
	logs   *logs
	cancel context.CancelFunc
	done   chan error
}

// config returns a configuration with short intervals.
func config(client *clientv3.Client, l *ledger, ranges ...keyhook.Range) Config {
	return Config{
		Client: client, Ranges: ranges, Mirror: l.mem, Consumer: l,
		ProgressInterval: 20 * time.Millisecond, RetryInitial: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		RecheckInterval: 20 * time.Millisecond, RequestTimeout: 20 * time.Second,
	}
}

// halting is on_gap: halt.
func halting(c *Config) { c.HaltOnGap = true }

// begin runs a watcher on the checkpoint of l until the test ends.
func begin(t testing.TB, l *ledger, cfg Config, changes ...func(*Config)) *run {
	t.Helper()
	cfg.States, cfg.Identity = l.states(t), l.identity(t)
	r := prepared(t, l, cfg, changes...)
	r.start()
	return r
}

// prepared returns a watcher that does not run yet.
func prepared(t testing.TB, l *ledger, cfg Config, changes ...func(*Config)) *run {
	t.Helper()
	r := &run{t: t, ledger: l, counts: new(counts), logs: new(logs), done: make(chan error, 1)}
	cfg.Observer, cfg.Logger = r.counts, r.logs.logger()
	for _, change := range changes {
		change(&cfg)
	}
	if cfg.Identity.ClusterID == 0 {
		id, err := ClusterID(t.Context(), cfg.Client, cfg.Ranges)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Identity.ClusterID = id
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Watcher = w
	return r
}

func (r *run) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx) }()
	r.t.Cleanup(r.stop)
}

// stop ends the watcher, which must return nil.
func (r *run) stop() {
	r.t.Helper()
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil {
		r.t.Errorf("Run returned %v", err)
	}
	if r.t.Failed() {
		r.t.Logf("the watcher's log:\n%s", r.logs)
	}
}

// crash stops the watcher and returns a ledger on what was durable.
func (r *run) crash() *ledger {
	r.t.Helper()
	r.ledger.mu.Lock()
	r.ledger.failure = errors.New("crashed")
	mem := r.ledger.mem.Clone()
	r.ledger.mu.Unlock()
	r.cancel()
	r.cancel = nil
	if err := <-r.done; err != nil && !strings.Contains(err.Error(), "crashed") {
		r.t.Errorf("Run returned %v", err)
	}
	return newLedger(mem)
}

// await waits until the status is as wanted.
func (r *run) await(what string, ok func(Status) bool) Status {
	r.t.Helper()
	timeout, tick := time.NewTimer(patience), time.NewTicker(2*time.Millisecond)
	defer timeout.Stop()
	defer tick.Stop()
	for {
		st := r.Status()
		if ok(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-timeout.C:
			r.t.Fatalf("never %s: %+v\n%s", what, st, r.logs)
		}
	}
}

func (r *run) awaitReady() Status {
	r.t.Helper()
	return r.await("ready", func(st Status) bool { return st.Ready })
}

// awaitError waits until the only range shows an error of the kind.
func (r *run) awaitError(k Kind) *Error {
	r.t.Helper()
	st := r.await(string(k), func(st Status) bool {
		return len(st.Ranges) == 1 && st.Ranges[0].Err != nil && st.Ranges[0].Err.Kind == k
	})
	if st.Ready {
		r.t.Fatalf("ready in spite of %v", st.Ranges[0].Err)
	}
	return st.Ranges[0].Err
}

// awaitPosition waits until every range has admitted revision rev.
func (r *run) awaitPosition(rev int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("at revision %d", rev), func(st Status) bool {
		return !slices.ContainsFunc(st.Ranges, func(s RangeStatus) bool { return s.Position.Revision() < rev })
	})
}

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
