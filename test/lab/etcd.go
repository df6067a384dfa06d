package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"keyhook/internal/freeport"
	"keyhook/test/oracle"
)

// Etcd is an etcd of one member, at an address that stays the same over
// restarts.
type Etcd struct {
	Endpoint string

	t         testing.TB
	path, dir string
	args      []string
	proc      *process
	snapshots []string
}

// StartEtcd starts etcd with an empty data directory and waits until it
// answers.
func StartEtcd(t testing.TB, path string, args ...string) *Etcd {
	t.Helper()
	dir := t.TempDir()
	client, peer := freeport.Address(t), freeport.Address(t)
	e := &Etcd{Endpoint: "http://" + client, t: t, path: path, dir: dir}
	e.args = append([]string{
		"--name", "test",
		"--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", e.Endpoint,
		"--advertise-client-urls", e.Endpoint,
		"--listen-peer-urls", "http://" + peer,
		"--initial-advertise-peer-urls", "http://" + peer,
		"--initial-cluster", "test=http://" + peer,
		"--log-level", "warn",
		// The tests never cut the power.
		"--unsafe-no-fsync",
	}, args...)
	showWhenFailed(t, "etcd", e.log())
	e.Start()
	return e
}

func (e *Etcd) log() string { return filepath.Join(e.dir, "etcd.log") }

// Start starts etcd again after it was stopped, and waits until it answers.
func (e *Etcd) Start() {
	e.t.Helper()
	e.proc = start(e.t, "etcd", e.log(), e.path, e.args...)
	client := e.Client()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	err := Poll(ctx, func() (bool, error) {
		if !e.proc.running() {
			return true, errors.New("etcd has ended")
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := client.MemberList(ctx)
		return err == nil, err
	})
	if err != nil {
		e.t.Fatalf("etcd does not answer: %v", err)
	}
}

// Stop stops etcd in good order.
func (e *Etcd) Stop() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.t.Context()), time.Minute)
	defer cancel()
	if _, err := e.proc.stop(ctx); err != nil {
		e.t.Fatal(err)
	}
}

// Kill ends etcd by SIGKILL. It loses nothing by that.
func (e *Etcd) Kill() {
	e.t.Helper()
	if err := e.proc.kill(); err != nil {
		e.t.Fatal(err)
	}
}

// Client returns a client that is closed with the test.
func (e *Etcd) Client(opts ...func(*clientv3.Config)) *clientv3.Client {
	e.t.Helper()
	cfg := clientv3.Config{Endpoints: []string{e.Endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()}
	for _, opt := range opts {
		opt(&cfg)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = c.Close() })
	return c
}

// Revision returns etcd's current revision.
func (e *Etcd) Revision() int64 {
	e.t.Helper()
	resp, err := e.Client().Get(e.t.Context(), "any")
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.Header.Revision
}

// Compact removes all history up to now, after it was noted for [Etcd.History].
// Nothing may be written meanwhile.
func (e *Etcd) Compact() int64 {
	e.t.Helper()
	client := e.Client()
	e.snapshot(client)
	revision := e.Revision()
	if _, err := client.Compact(e.t.Context(), revision, clientv3.WithCompactPhysical()); err != nil {
		e.t.Fatal(err)
	}
	return revision
}

// HistorySoFar returns all that etcd has held up to now, without stopping it.
func (e *Etcd) HistorySoFar() oracle.History {
	e.t.Helper()
	e.snapshot(e.Client())
	h := e.read(e.snapshots...)
	e.snapshots = e.snapshots[:len(e.snapshots)-1]
	return h
}

// snapshot keeps a copy of the database.
func (e *Etcd) snapshot(client *clientv3.Client) {
	e.t.Helper()
	path := filepath.Join(e.dir, fmt.Sprintf("snapshot-%d", len(e.snapshots)))
	if err := download(e.t.Context(), client, path); err != nil {
		e.t.Fatalf("snapshot: %v", err)
	}
	e.snapshots = append(e.snapshots, path)
}

func download(ctx context.Context, client *clientv3.Client, path string) (err error) {
	from, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	size, err := io.Copy(to, from)
	if err != nil {
		return err
	}
	// A checksum follows the database, which consists of whole pages.
	return to.Truncate(size &^ 511)
}

// History stops etcd and returns all that it has ever held.
func (e *Etcd) History() oracle.History {
	e.t.Helper()
	if e.proc.running() {
		e.Stop()
	}
	return e.read(append(slices.Clone(e.snapshots), filepath.Join(e.dir, "data", "member", "snap", "db"))...)
}

func (e *Etcd) read(paths ...string) oracle.History {
	e.t.Helper()
	parts := make([]oracle.History, 0, len(paths))
	for _, path := range paths {
		h, err := oracle.ReadHistory(path)
		if err != nil {
			e.t.Fatal(err)
		}
		parts = append(parts, h)
	}
	return oracle.Join(parts...)
}
