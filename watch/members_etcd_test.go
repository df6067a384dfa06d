package watch

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/test/lab"
)

// members is a cluster of three processes, of the version under test.
type members struct {
	*lab.Cluster
	t *testing.T
}

func newMembers(t *testing.T) *members {
	t.Helper()
	programs, err := lab.EtcdUnderTest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// They vote soon, and so notice soon that they are cut off. On a machine that is
	// too slow for it they vote more often.
	return &members{lab.StartCluster(t, programs, "--heartbeat-interval=50", "--election-timeout=500"), t}
}

// patient returns a member that does not notice for a minute that it has no leader.
func (c *members) patient() *lab.Member {
	c.t.Helper()
	m := c.Members[0]
	c.lead(m, false)
	c.must(m.Kill())
	c.must(m.Start("--election-timeout=50000"))
	c.must(c.AwaitHealthy(c.t.Context()))
	return m
}

// connect returns keyhook's client of some members.
func (c *members) connect(some ...*lab.Member) *clientv3.Client {
	c.t.Helper()
	var cfg ClientConfig
	for _, m := range some {
		cfg.Endpoints = append(cfg.Endpoints, m.Endpoint())
	}
	client, err := Connect(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// watch watches through some members. What a member does not answer is given up
// soon.
func (c *members) watch(l *ledger, some []*lab.Member, changes ...func(*Config)) *run {
	c.t.Helper()
	var id uint64
	c.insist("the cluster says its id", func() error {
		list, err := c.Client.MemberList(c.t.Context())
		if err == nil {
			id = list.Header.GetClusterId()
		}
		return err
	})
	return begin(c.t, l, config(c.connect(some...), l, prefix("/a/")), append([]func(*Config){func(cfg *Config) {
		cfg.Identity.ClusterID = id
		cfg.RequestTimeout = 2 * time.Second
	}}, changes...)...)
}

// serving returns the member that serves the only watch.
func (c *members) serving() (m *lab.Member) {
	c.t.Helper()
	poll(c.t, "one member serves a watch", func() bool {
		n := 0
		for _, each := range c.Members {
			watches, err := each.Watchers(c.t.Context())
			if err != nil {
				c.t.Log(err)
				return false
			}
			if n += watches; watches > 0 {
				m = each
			}
		}
		return n == 1
	})
	return m
}

// insist does something until it succeeds: an election may come at any time.
func (c *members) insist(what string, do func() error) {
	c.t.Helper()
	poll(c.t, what, func() bool {
		err := do()
		if err != nil {
			c.t.Log(err)
		}
		return err == nil
	})
}

func (c *members) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *members) without(m *lab.Member) (rest []*lab.Member) {
	for _, each := range c.Members {
		if each != m {
			rest = append(rest, each)
		}
	}
	return rest
}

// put writes through one of some members, as soon as that is possible.
func (c *members) put(value string, some ...*lab.Member) (rev int64) {
	c.t.Helper()
	tries := 0
	poll(c.t, "it is written", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		defer cancel()
		// One that was not answered may have been made, or may be yet: then there is a
		// version more.
		txn, err := some[tries%len(some)].Client.Txn(ctx).If(clientv3.Compare(clientv3.Value("/a/k"), "=", value)).
			Else(clientv3.OpPut("/a/k", value)).Commit()
		tries++
		if err != nil {
			return false
		}
		rev = txn.Header.Revision
		return true
	})
	return rev
}

// lead makes m the leader, or another one if it is not to be.
func (c *members) lead(m *lab.Member, leads bool) {
	c.t.Helper()
	to := m
	if !leads {
		to = c.without(m)[0]
	}
	poll(c.t, "the leader is another one", func() bool {
		now := c.Leader(c.t.Context())
		if now == nil || (now == m) != leads {
			if err := c.MoveLeader(c.t.Context(), to); err != nil {
				c.t.Log(err)
			}
			return false
		}
		return true
	})
}

// onlyOnce fails unless every version of the key was told, from one on, once and
// in order.
func onlyOnce(t *testing.T, r *run, events []*keyhook.Event, first int64) {
	t.Helper()
	for i, e := range events {
		if e.Version != first+int64(i) || e.Synthetic {
			t.Fatalf("change %d is %s", i, describe(e))
		}
	}
	if gaps, mismatches := r.counts.seen(); len(gaps) > 0 || mismatches > 0 {
		t.Fatalf("gaps %v, %d mismatches", gaps, mismatches)
	}
}

// The member says that it has no leader, as it is asked to: silence would not tell
// it from one to which nothing is written.
func TestAPartitionedMemberIsLeftForAnother(t *testing.T) {
	t.Parallel()
	const changes = 20
	cluster := newMembers(t)
	for _, role := range []struct {
		name  string
		leads bool
	}{{"a follower", false}, {"the leader", true}} {
		t.Run(role.name, func(t *testing.T) {
			c := &members{cluster.Cluster, t}
			c.insist("the key is deleted", func() error {
				_, err := c.Client.Delete(t.Context(), "/a/k")
				return err
			})
			l := newLedger(checkpointtest.NewMemory())
			r := c.watch(l, c.Members)
			r.awaitReady()
			var alone *lab.Member
			poll(t, "the member has its role", func() bool { // an election may move the watch
				alone = c.serving()
				c.lead(alone, role.leads)
				return c.serving() == alone
			})
			c.put("0", alone)
			l.wait(t, 1)
			c.insist("it is alone", func() error { return c.Isolate(t.Context(), alone) })
			defer c.Rejoin()
			for i := range changes {
				c.put(fmt.Sprint(1+i), c.without(alone)...)
			}
			l.wait(t, 1+changes)
			r.awaitReady()
			if c.serving() == alone {
				t.Fatal("the member that is alone serves the watch")
			}
			c.Rejoin()
			c.must(c.AwaitHealthy(t.Context()))
			last := c.put("the last", alone)
			r.awaitPosition(last)
			r.stop()
			onlyOnce(t, r, l.admitted(), 1)
		})
	}
}

// A member may have a leader and answer, and know nothing of what the others have
// committed for long: it is left when a linearizable read shows that.
func TestAMemberThatLagsIsLeftForAnother(t *testing.T) {
	t.Parallel()
	c := newMembers(t)
	alone := c.patient()
	// A machine that stands still makes the member silent, which is seen first.
	const rounds = 5
	for round := 1; !strings.Contains(c.lagging(alone), errLags.Error()); round++ {
		if round == rounds {
			t.Fatalf("in none of %d rounds the member was left because it lags", rounds)
		}
	}
}

// lagging lets a member lag that serves a watch, until another one serves it, and
// returns what was logged.
func (c *members) lagging(alone *lab.Member) (log string) {
	c.t.Helper()
	c.insist("the key is deleted", func() error {
		_, err := c.Client.Delete(c.t.Context(), "/a/k")
		return err
	})
	for _, m := range c.without(alone) {
		m.Proxy.Cut()
	}
	l := newLedger(checkpointtest.NewMemory())
	r := c.watch(l, c.Members, func(c *Config) { c.ProgressDeadline = 2 * time.Second })
	r.awaitReady()
	for _, m := range c.without(alone) {
		m.Proxy.Pass()
	}
	c.put("0", alone)
	l.wait(c.t, 1)
	c.insist("it is alone", func() error { return c.Isolate(c.t.Context(), alone) })
	for i := range 20 {
		c.put(fmt.Sprint(1+i), c.without(alone)...)
	}
	onlyOnce(c.t, r, l.wait(c.t, 21), 1)
	c.Rejoin()
	c.must(c.AwaitHealthy(c.t.Context()))
	r.awaitReady()
	last := c.put("the last", alone)
	r.awaitPosition(last)
	r.stop()
	onlyOnce(c.t, r, l.admitted(), 1)
	return r.logs.String()
}

// far is how many changes a member has to miss to be sent a snapshot in their place.
const far = 300

// apart is an etcd that is read through one client and watched through another.
type apart struct {
	history
	watched history
	asked   atomic.Int64 // requests for progress
}

func (a *apart) watch(ctx context.Context, r keyhook.Range, rev int64, fragments bool) (stream, error) {
	s, err := a.watched.watch(ctx, r, rev, fragments)
	return &asking{s, a}, err
}

type asking struct {
	stream
	a *apart
}

func (s *asking) requestProgress() error {
	s.a.asked.Add(1)
	return s.stream.requestProgress()
}

// The position is ahead of the member that keyhook finds: that is no rollback. What
// the member learns then, by a snapshot of another one, was read before.
func TestAMemberThatIsBehindThePositionIsNoRollback(t *testing.T) {
	t.Parallel()
	cluster := newMembers(t)
	for _, found := range []struct {
		name   string
		begin  func(c *members) (behind *lab.Member)
		resume func(c *members, l *ledger, behind *lab.Member) *run
	}{
		// As after a failover: the member can serve nothing until it has caught up.
		{"alone", func(c *members) *lab.Member { return c.Members[0] }, func(c *members, l *ledger, behind *lab.Member) *run {
			r := c.watch(l, []*lab.Member{behind})
			if e := r.awaitError(Unreachable); e.Halts() {
				c.t.Fatal(e)
			}
			return r
		}},
		// Reads are answered by another member, so that it is watched from a revision
		// that it does not have.
		{"watched", (*members).patient, func(c *members, l *ledger, behind *lab.Member) *run {
			cfg := config(c.connect(c.without(behind)...), l, prefix("/a/"))
			cfg.States, cfg.Identity = l.states(c.t), l.identity(c.t)
			r := prepared(c.t, l, cfg)
			a := &apart{history: r.etcd, watched: newEtcd(c.connect(behind), time.Minute)}
			r.etcd = a
			r.start()
			st := r.awaitReady()
			r.await("asked for progress", func(Status) bool { return a.asked.Load() > 5 })
			var rev int64
			c.insist("it says its revision", func() (err error) {
				rev, err = behind.Revision(c.t.Context())
				return err
			})
			if rev >= st.Ranges[0].Position.Revision() {
				c.t.Fatalf("the member is at revision %d, not behind %s", rev, st.Ranges[0].Position)
			}
			return r
		}},
	} {
		t.Run(found.name, func(t *testing.T) {
			c := &members{cluster.Cluster, t}
			c.insist("the key is deleted", func() error {
				_, err := c.Client.Delete(t.Context(), "/a/k")
				return err
			})
			behind := found.begin(c)
			l := newLedger(checkpointtest.NewMemory())
			r := c.watch(l, c.without(behind))
			r.awaitReady()
			c.insist("it is alone", func() error { return c.Isolate(t.Context(), behind) })
			defer c.Rejoin()
			for i := range far {
				c.put(fmt.Sprint(i), c.without(behind)...)
			}
			l.wait(t, far)
			r.stop()
			onlyOnce(t, r, l.admitted(), 1)
			first := int64(len(l.admitted()) + 1)

			l = newLedger(l.mem)
			r = found.resume(c, l, behind)
			stood := r.Status().Ranges[0].Position
			c.Rejoin()
			c.must(c.AwaitHealthy(t.Context()))
			r.awaitReady()
			if now := r.Status().Ranges[0].Position; now.Compare(stood) < 0 {
				t.Fatalf("the position went back from %s to %s", stood, now)
			}
			var last int64
			for i := range 10 {
				last = c.put(fmt.Sprint("more ", i), behind)
			}
			l.wait(t, 10)
			r.awaitPosition(last)
			r.stop()
			onlyOnce(t, r, l.admitted(), first)
		})
	}
}

// counted counts the reads that attempts begin with.
type counted struct {
	history
	heads atomic.Int64
}

func (c *counted) head(ctx context.Context, r keyhook.Range) (head, error) {
	c.heads.Add(1)
	return c.history.head(ctx, r)
}

// Two of three members are gone: the third serves nothing, and says so. keyhook
// tells that, asks now and then, and goes on when there is a leader again.
func TestWithoutALeaderNothingIsReadAndNothingLost(t *testing.T) {
	t.Parallel()
	c := newMembers(t)
	l := newLedger(checkpointtest.NewMemory())
	cfg := config(c.connect(c.Members...), l, prefix("/a/"))
	cfg.RequestTimeout = 2 * time.Second
	const most = 200 * time.Millisecond
	r := prepared(t, l, cfg, func(c *Config) { c.RetryMax = most })
	asked := &counted{history: r.etcd}
	r.etcd = asked
	r.start()
	r.awaitReady()
	c.put("0", c.Members[2])
	l.wait(t, 1)
	for _, m := range c.Members[:2] {
		c.must(m.Kill())
	}
	r.await("without a leader", func(st Status) bool {
		e := st.Ranges[0].Err
		return !st.Ready && e != nil && e.Kind == Unreachable && strings.Contains(e.Error(), "etcd has no leader") && e.Hint != ""
	})
	began, before := time.Now(), asked.heads.Load()
	const attempts = 10
	r.await("tried again", func(st Status) bool {
		if st.Ready || st.Ranges[0].Halted || st.Ranges[0].Repairing {
			t.Fatalf("without a leader: %+v", st)
		}
		return asked.heads.Load() >= before+attempts
	})
	// Delays vary by a half, and have grown by then.
	if took, least := time.Since(began), (attempts-2)*most/4; took < least {
		t.Errorf("%d attempts took only %s", attempts, took)
	}
	for _, m := range c.Members[:2] {
		c.must(m.Start())
	}
	r.awaitPosition(c.put("1", c.Members[0]))
	r.awaitReady()
	onlyOnce(t, r, l.admitted(), 1)
	if n := len(l.repaired()); n > 0 {
		t.Fatalf("%d gaps", n)
	}
}

func TestAMemberThatIsGoneIsReplacedByAnother(t *testing.T) {
	t.Parallel()
	c := newMembers(t)
	l := newLedger(checkpointtest.NewMemory())
	r := c.watch(l, c.Members)
	r.awaitReady()
	for i, m := range c.Members {
		c.must(m.Kill())
		c.put(fmt.Sprint(i), c.without(m)...)
		l.wait(t, i+1)
		c.must(m.Start())
		c.must(c.AwaitHealthy(t.Context()))
	}
	onlyOnce(t, r, l.admitted(), 1)
	if n := len(l.repaired()); n > 0 {
		t.Fatalf("%d gaps", n)
	}
}

// A member whose connections swallow everything is told from a silent one by what
// the connection itself does not answer. Keepalives take ten seconds at least, and
// five more: while they are waited for other tests run.
func TestAConnectionThatSwallowsEverythingIsLeft(t *testing.T) {
	t.Parallel()
	c := newMembers(t)
	l := newLedger(checkpointtest.NewMemory())
	r := c.watch(l, c.Members, func(c *Config) { c.ProgressDeadline = time.Hour })
	r.awaitReady()
	swallowed := c.serving()
	swallowed.Proxy.Blackhole()
	defer swallowed.Proxy.Pass()
	r.awaitPosition(c.put("0", swallowed))
	onlyOnce(t, r, l.admitted(), 1)
	swallowed.Proxy.Pass()
	r.awaitPosition(c.put("1", swallowed))
	r.stop()
	onlyOnce(t, r, l.admitted(), 1)
}
