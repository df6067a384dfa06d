package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sync/errgroup"

	"keyhook/test/oracle"
)

// era is the time between two restores of a cluster. Its databases hold all that
// happened in it: one was kept before each compaction, and one of each member
// at its end.
type era struct {
	base      int64 // the revision of the snapshot that it began with
	began     time.Time
	databases []string
}

// Snapshot is what a cluster held at a revision, as operators back it up.
type Snapshot struct {
	Revision int64
	path     string
}

// Snapshot keeps what the cluster holds now.
func (c *Cluster) Snapshot(ctx context.Context) (Snapshot, error) {
	now, err := c.Revision(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	return c.snapshot(ctx, now)
}

// snapshot keeps the database of a member that has come to a revision.
func (c *Cluster) snapshot(ctx context.Context, least int64) (Snapshot, error) {
	var why []error
	for _, m := range c.freshest(ctx) {
		s := Snapshot{path: c.keep()}
		if err := m.backup(ctx, s.path); err != nil {
			why = append(why, fmt.Errorf("etcd %s: %w", m.Name, err))
			continue
		}
		h, err := oracle.ReadHistory(s.path)
		if err != nil {
			return s, err
		}
		if s.Revision = h.Revision(); s.Revision >= least {
			return s, nil
		}
		why = append(why, fmt.Errorf("etcd %s is at revision %d, not %d", m.Name, s.Revision, least))
	}
	return Snapshot{}, fmt.Errorf("no member gives a snapshot: %w", errors.Join(why...))
}

func (m *Member) backup(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return download(ctx, m.Client, path)
}

// Compact removes the history before a revision, after it was noted for
// [Cluster.History]. It may be written to meanwhile.
func (c *Cluster) Compact(ctx context.Context, revision int64) error {
	s, err := c.snapshot(ctx, revision)
	if err != nil {
		return err
	}
	c.now().databases = append(c.now().databases, s.path)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := c.Client.Compact(ctx, revision); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return err
	}
	return nil
}

func (c *Cluster) now() *era { return &c.eras[len(c.eras)-1] }

// Restore makes the cluster hold what it held at a snapshot, and nothing that
// came after it: every member is stopped, gets a new data directory with the
// snapshot, and is started again. The members, their addresses and the cluster's
// id stay the same.
func (c *Cluster) Restore(ctx context.Context, s Snapshot) error {
	if err := c.end(ctx); err != nil {
		return err
	}
	var group errgroup.Group
	for _, m := range c.Members {
		m.dir = fmt.Sprintf("%s-%d", m.dir, len(c.eras))
		group.Go(func() error { return c.restore(ctx, m, s) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.eras = append(c.eras, era{base: s.Revision, began: time.Now()})
	for _, m := range c.Members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	return c.AwaitHealthy(ctx)
}

// restore makes a snapshot the data of a member.
func (c *Cluster) restore(ctx context.Context, m *Member, s Snapshot) error {
	cmd := exec.CommandContext(ctx, c.programs.Utility, "snapshot", "restore", s.path,
		"--name", m.Name, "--data-dir", m.dir, "--initial-cluster", m.membership, "--initial-advertise-peer-urls", m.advertised(),
		"--skip-hash-check") // the checksum behind the database was taken off
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd, err, said)
	}
	return nil
}

// Restores returns when the cluster was restored: after the last moment of one
// era and before the first of the next.
func (c *Cluster) Restores() []time.Time {
	times := make([]time.Time, 0, len(c.eras))
	for _, e := range c.eras[1:] {
		times = append(times, e.began)
	}
	return times
}

// end stops the cluster and keeps the databases of the members: together they
// hold whatever any of them can have told.
func (c *Cluster) end(ctx context.Context) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	for _, m := range c.Members {
		if _, err := os.Stat(m.database()); errors.Is(err, os.ErrNotExist) {
			continue // killed before it had any
		}
		kept := c.keep()
		if err := copyFile(kept, m.database()); err != nil {
			return err
		}
		c.now().databases = append(c.now().databases, kept)
	}
	return nil
}

// History stops the cluster and returns all that it has ever held.
func (c *Cluster) History(ctx context.Context) (oracle.History, error) {
	if err := c.end(ctx); err != nil {
		return nil, err
	}
	eras := make([]oracle.Era, 0, len(c.eras))
	for _, e := range c.eras {
		parts := make([]oracle.History, 0, len(e.databases))
		for _, path := range e.databases {
			h, err := oracle.ReadHistory(path)
			if err != nil {
				return nil, err
			}
			parts = append(parts, h)
		}
		eras = append(eras, oracle.Era{Base: e.base, Changes: oracle.Join(parts...)})
	}
	return oracle.Splice(eras...), nil
}
