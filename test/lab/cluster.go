package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"keyhook/internal/freeport"
)

const members = 3

// Cluster is an etcd of three members, at addresses that stay the same over
// restarts. What its methods cannot do is an error, so that trouble may be made
// while there is trouble.
type Cluster struct {
	Members []*Member
	Client  *clientv3.Client // of all members, not through the proxies

	t        testing.TB
	programs EtcdPrograms
	dir      string
	eras     []era
	kept     int // databases, for their names
}

// Member is one of a cluster, with a proxy for those who must not be sure of it.
type Member struct {
	Name   string
	Proxy  *Proxy
	Client *clientv3.Client // of this member alone, not through its proxy

	t          testing.TB
	program    string
	log        string
	url, peer  string // where it listens, for clients and for the others
	network    *Proxy // through which the others reach it
	dir        string // of its data
	more       []string
	proc       *process
	suspended  bool
	membership string // --initial-cluster
}

// StartCluster starts a cluster with nothing in it and waits until it answers.
// Its members are given args besides their own.
func StartCluster(t testing.TB, programs EtcdPrograms, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, programs: programs, dir: t.TempDir(), eras: []era{{began: time.Now()}}}
	var membership, urls []string
	for i := range members {
		addr, peer := freeport.Address(t), freeport.Address(t)
		m := &Member{
			Name: fmt.Sprintf("m%d", i), Proxy: StartProxy(t, addr), t: t, program: programs.Server,
			url: "http://" + addr, peer: "http://" + peer, network: startProxy(t, peer, peerSender),
			more: append(catchUp(programs.Version), args...),
		}
		m.log = filepath.Join(c.dir, m.Name+".log")
		membership, urls = append(membership, m.Name+"="+m.advertised()), append(urls, m.url)
		c.Members = append(c.Members, m)
	}
	c.Client = c.connect(urls...)
	for _, m := range c.Members {
		m.membership = strings.Join(membership, ",")
		m.dir = filepath.Join(c.dir, m.Name)
		m.Client = c.connect(m.url)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.AwaitHealthy(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// catchUp makes a member that was away for long take a snapshot from another one
// and not the changes that it missed.
func catchUp(version string) []string {
	flag := "--snapshot-catchup-entries=50"
	if strings.HasPrefix(version, "3.5.") {
		flag = "--experimental-snapshot-catchup-entries=50"
	}
	return []string{"--snapshot-count=200", flag}
}

func (c *Cluster) connect(urls ...string) *clientv3.Client {
	c.t.Helper()
	// A member that was away is found again at once.
	retry := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(retry)},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Endpoints returns where the proxies of the members listen, in the form of a
// YAML list without its brackets.
func (c *Cluster) Endpoints() string {
	urls := make([]string, 0, len(c.Members))
	for _, m := range c.Members {
		urls = append(urls, m.Endpoint())
	}
	return strings.Join(urls, ", ")
}

// Endpoint is where clients reach the member, through its proxy.
func (m *Member) Endpoint() string { return "http://" + m.Proxy.Address }

// Logs returns the paths of the members' logs. They are too long for the output
// of a test.
func (c *Cluster) Logs() []string {
	paths := make([]string, 0, len(c.Members))
	for _, m := range c.Members {
		paths = append(paths, m.log)
	}
	return paths
}

// AwaitHealthy waits until every member answers linearizable reads.
func (c *Cluster) AwaitHealthy(ctx context.Context) error {
	return Poll(ctx, func() (bool, error) {
		for _, m := range c.Members {
			if !m.Running() {
				return true, fmt.Errorf("etcd %s has ended", m.Name)
			}
			if _, err := revision(ctx, m.Client); err != nil {
				return false, fmt.Errorf("etcd %s: %w", m.Name, err)
			}
		}
		return true, nil
	})
}

// Revision returns the cluster's revision by a linearizable read.
func (c *Cluster) Revision(ctx context.Context) (int64, error) { return revision(ctx, c.Client) }

func revision(ctx context.Context, client *clientv3.Client) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, "any")
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// Leader returns the member that says it leads, nil if none does.
func (c *Cluster) Leader(ctx context.Context) *Member {
	for _, m := range c.Members {
		if _, leads, err := m.id(ctx); err == nil && leads {
			return m
		}
	}
	return nil
}

// MoveLeader makes a member the leader.
func (c *Cluster) MoveLeader(ctx context.Context, to *Member) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	leader := c.Leader(ctx)
	if leader == nil {
		return errors.New("there is no leader")
	}
	id, leads, err := to.id(ctx)
	if err != nil || leads {
		return err
	}
	_, err = leader.Client.MoveLeader(ctx, id)
	return err
}

// id returns the id of a member that answers, and whether it leads.
func (m *Member) id(ctx context.Context) (id uint64, leads bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := m.Client.Status(ctx, m.url)
	if err != nil {
		return 0, false, err
	}
	id = st.Header.GetMemberId()
	return id, st.Leader == id, nil
}

// Stop stops every member in good order, suspended ones too.
func (c *Cluster) Stop(ctx context.Context) error {
	// The leader comes last: it would wait for another one to take over.
	leader := c.Leader(ctx)
	var group errgroup.Group
	for _, m := range c.Members {
		if m != leader {
			group.Go(func() error { return m.stop(ctx) })
		}
	}
	err := group.Wait()
	if leader != nil {
		err = errors.Join(err, leader.stop(ctx))
	}
	return err
}

// Start starts the member, which does not run, with args besides those that it had.
// It does not wait for anything.
func (m *Member) Start(args ...string) error {
	if m.Running() {
		return fmt.Errorf("etcd %s runs already", m.Name)
	}
	m.more = append(m.more, args...)
	m.proc = start(m.t, "etcd "+m.Name, m.log, m.program, append([]string{
		"--name", m.Name,
		"--data-dir", m.dir,
		"--listen-client-urls", m.url,
		"--advertise-client-urls", m.Endpoint(),
		"--listen-peer-urls", m.peer,
		"--initial-advertise-peer-urls", m.advertised(),
		"--initial-cluster", m.membership,
		"--log-level", "warn",
		"--unsafe-no-fsync", // the power is never cut
	}, m.more...)...)
	m.suspended = false
	return nil
}

// Running reports whether the member has not ended. A suspended one has not.
func (m *Member) Running() bool { return m.proc.running() }

// Kill ends the member by SIGKILL. It loses nothing by that.
func (m *Member) Kill() error { return m.proc.kill() }

// Suspend stops the member where it is, by SIGSTOP: connections to it stay, and
// nothing is answered.
func (m *Member) Suspend() error {
	m.suspended = true
	return m.proc.suspend()
}

// Resume lets a suspended member go on as if nothing had happened.
func (m *Member) Resume() error {
	m.suspended = false
	return m.proc.resume()
}

func (m *Member) stop(ctx context.Context) error {
	if !m.Running() {
		return nil
	}
	if m.suspended {
		if err := m.Resume(); err != nil {
			return err
		}
	}
	// It would wait for the watches of its clients to end.
	was := m.Proxy.become(weather{cut: true})
	defer m.Proxy.become(was)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_, err := m.proc.stop(ctx)
	return err
}

// database is the file in which the member's data are.
func (m *Member) database() string { return filepath.Join(m.dir, "member", "snap", "db") }

// freshest returns the running members, those that have applied most first.
func (c *Cluster) freshest(ctx context.Context) []*Member {
	applied := make(map[*Member]uint64)
	var answer []*Member
	for _, m := range c.Members {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		st, err := m.Client.Status(ctx, m.url)
		cancel()
		if err == nil {
			applied[m] = st.RaftAppliedIndex
			answer = append(answer, m)
		}
	}
	slices.SortStableFunc(answer, func(a, b *Member) int { return cmp.Compare(applied[b], applied[a]) })
	return answer
}

// keep names a file for a database.
func (c *Cluster) keep() string {
	c.kept++
	return filepath.Join(c.dir, fmt.Sprintf("kept-%03d.db", c.kept))
}

// copyFile copies what a process that has ended has written.
func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
