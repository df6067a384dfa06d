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
)

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
