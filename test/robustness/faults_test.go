package robustness

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/lab"
	"keyhook/test/load"
	"keyhook/test/oracle"
)

// fault is one kind of trouble. Begin makes it and end takes it away; an error
// of either is that of a test that cannot go on.
type fault struct {
	parts []part
	begin func(r *testRun, s *step) error
	end   func(r *testRun, s *step) error
}

// The two kinds of a restore: keyhook finds an etcd that is behind it, or one
// that has come past it again with another history.
const (
	restoring       = "restore"
	restoringUnseen = "restore unseen"
)

// isRestore reports whether a fault is a restore.
func isRestore(name string) bool { return name == restoring || name == restoringUnseen }

// faults is everything that can go wrong.
var faults map[string]fault

func init() {
	faults = map[string]fault{
		"kill member":      {parts: []part{etcdMembers}, begin: killMembers(one), end: startMembers},
		"kill majority":    {parts: []part{etcdMembers}, begin: killMembers(others), end: startMembers},
		"kill all members": {parts: []part{etcdMembers}, begin: killMembers(all), end: startMembers},
		"suspend member":   {parts: []part{etcdMembers}, begin: suspendMembers(one), end: resumeMembers},
		"suspend leader":   {parts: []part{etcdMembers}, begin: suspendMembers(leader), end: resumeMembers},
		"suspend majority": {parts: []part{etcdMembers}, begin: suspendMembers(others), end: resumeMembers},
		"isolate member":   {parts: []part{etcdMembers}, begin: isolate(one), end: rejoin},
		"isolate leader":   {parts: []part{etcdMembers}, begin: isolate(leader), end: rejoin},
		"move leader":      {parts: []part{etcdMembers}, begin: moveLeader, end: nothing},

		"cut one":         {parts: []part{network}, begin: overNetwork(one, (*lab.Proxy).Cut), end: networkPasses},
		"cut all":         {parts: []part{network}, begin: overNetwork(all, (*lab.Proxy).Cut), end: networkPasses},
		"sever all":       {parts: []part{network}, begin: severOften, end: nothing},
		"blackhole one":   {parts: []part{network}, begin: overNetwork(one, (*lab.Proxy).Blackhole), end: networkPasses},
		"blackhole all":   {parts: []part{network}, begin: overNetwork(all, (*lab.Proxy).Blackhole), end: networkPasses},
		"delay":           {parts: []part{network}, begin: delayAll, end: networkPasses},
		"compact behind":  {parts: []part{etcdHistory}, begin: compactBehind, end: nothing},
		"compact head":    {parts: []part{etcdHistory}, begin: compactHead, end: nothing},
		"fall behind":     {parts: []part{network, etcdHistory}, begin: fallBehind, end: networkPasses},
		"compaction race": {parts: []part{keyhookProcess, etcdHistory}, begin: compactionRace, end: nothing},

		"kill keyhook": {parts: []part{keyhookProcess}, begin: killKeyhook, end: startKeyhook},
		"backlog":      {parts: []part{keyhookProcess}, begin: backlog, end: startKeyhook},

		restoring:       {parts: []part{etcdMembers, network, etcdHistory, keyhookProcess}, begin: restore, end: noticed},
		restoringUnseen: {parts: []part{etcdMembers, network, etcdHistory, keyhookProcess}, begin: restore, end: noticed},
	}
}

func nothing(*testRun, *step) error { return nil }

// choice says which members a fault concerns.
type choice func(r *testRun, s *step) []*lab.Member

func one(r *testRun, s *step) []*lab.Member { return r.etcd.Members[s.member : s.member+1] }
func all(r *testRun, _ *step) []*lab.Member { return r.etcd.Members }

func others(r *testRun, s *step) []*lab.Member {
	var chosen []*lab.Member
	for i, m := range r.etcd.Members {
		if i != s.member {
			chosen = append(chosen, m)
		}
	}
	return chosen
}

func leader(r *testRun, s *step) []*lab.Member {
	if m := r.etcd.Leader(r.ctx); m != nil {
		return []*lab.Member{m}
	}
	return one(r, s)
}

func killMembers(which choice) func(*testRun, *step) error {
	return func(r *testRun, s *step) error {
		for _, m := range which(r, s) {
			if err := m.Kill(); err != nil {
				return err
			}
		}
		return nil
	}
}

func startMembers(r *testRun, _ *step) error {
	for _, m := range r.etcd.Members {
		if !m.Running() {
			if err := m.Start(); err != nil {
				return err
			}
		}
	}
	return r.etcd.AwaitHealthy(r.ctx)
}

func suspendMembers(which choice) func(*testRun, *step) error {
	return func(r *testRun, s *step) error {
		for _, m := range which(r, s) {
			if err := m.Suspend(); err != nil {
				return err
			}
		}
		// Beyond an election.
		s.dwell += time.Second
		return nil
	}
}

func resumeMembers(r *testRun, _ *step) error {
	for _, m := range r.etcd.Members {
		if err := m.Resume(); err != nil {
			return err
		}
	}
	return r.etcd.AwaitHealthy(r.ctx)
}

// isolate cuts a member off from the others, but not from keyhook.
func isolate(which choice) func(*testRun, *step) error {
	return func(r *testRun, s *step) error {
		for _, m := range which(r, s) {
			if err := r.etcd.Isolate(r.ctx, m); err != nil {
				return err
			}
		}
		// Beyond an election; often until the member ends its watches.
		s.dwell += 6 * time.Second
		return nil
	}
}

func rejoin(r *testRun, _ *step) error {
	r.etcd.Rejoin()
	return r.etcd.AwaitHealthy(r.ctx)
}

func moveLeader(r *testRun, s *step) error {
	r.note("move leader", r.etcd.MoveLeader(r.ctx, r.etcd.Members[s.member]))
	return nil
}

func overNetwork(which choice, do func(*lab.Proxy)) func(*testRun, *step) error {
	return func(r *testRun, s *step) error {
		for _, m := range which(r, s) {
			do(m.Proxy)
		}
		return nil
	}
}

func networkPasses(r *testRun, _ *step) error {
	for _, m := range r.etcd.Members {
		m.Proxy.Pass()
	}
	return nil
}

func severOften(r *testRun, s *step) error {
	for range 1 + s.amount%5 {
		for _, m := range r.etcd.Members {
			m.Proxy.Sever()
		}
		if err := r.dwell(s.dwell / 5); err != nil {
			return err
		}
	}
	return nil
}

func delayAll(r *testRun, s *step) error {
	for _, m := range r.etcd.Members {
		m.Proxy.Delay(time.Duration(s.amount) * 4 * time.Millisecond)
	}
	return nil
}

// compactBehind removes what keyhook says it has read.
func compactBehind(r *testRun, _ *step) error {
	st, err := r.keyhook.Status(r.ctx)
	if err != nil || len(st.Ranges) == 0 {
		r.note("compact behind", err)
		return nil
	}
	least := st.Ranges[0].Position
	for _, rng := range st.Ranges {
		least = min(least, rng.Position)
	}
	if least > 0 {
		r.compact(least)
	}
	return nil
}

// compactHead removes all there is, read or not.
func compactHead(r *testRun, _ *step) error {
	head, err := r.etcd.Revision(r.ctx)
	if err != nil {
		r.note("compact", err)
		return nil
	}
	r.compact(head)
	return nil
}

// fallBehind removes what keyhook cannot have read.
func fallBehind(r *testRun, s *step) error {
	for _, m := range r.etcd.Members {
		if s.amount%2 == 0 {
			m.Proxy.Cut()
		} else {
			m.Proxy.Blackhole()
		}
	}
	if err := r.written(5 * s.amount); err != nil {
		return err
	}
	return compactHead(r, s)
}

// compactionRace kills keyhook, and removes whatever is there while it comes back
// and tries to read it.
func compactionRace(r *testRun, s *step) error {
	if err := killKeyhook(r, s); err != nil {
		return err
	}
	if err := r.written(3 * s.amount); err != nil {
		return err
	}
	if err := compactHead(r, s); err != nil {
		return err
	}
	r.keyhook.Start()
	for range 3 + s.amount%8 {
		if err := r.dwell(20 * time.Millisecond); err != nil {
			return err
		}
		if err := compactHead(r, s); err != nil {
			return err
		}
	}
	return nil
}

func killKeyhook(r *testRun, _ *step) error {
	r.keyhook.Kill()
	if err := r.receiver.AwaitHangup(r.ctx); err != nil {
		return err
	}
	r.kills = append(r.kills, oracle.Kill{At: time.Now(), Durable: r.keyhook.Durable()})
	return nil
}

// startKeyhook starts keyhook again, and now and then kills it at once.
func startKeyhook(r *testRun, s *step) error {
	r.keyhook.Start()
	if s.amount%3 != 0 {
		return nil
	}
	if err := r.dwell(s.dwell / 3); err != nil {
		return err
	}
	if err := killKeyhook(r, s); err != nil {
		return err
	}
	r.keyhook.Start()
	return nil
}

// backlog kills keyhook and leaves it far more to read than etcd sends at once:
// thousands of revisions, and one in which all of their keys are deleted.
func backlog(r *testRun, s *step) error {
	if err := killKeyhook(r, s); err != nil {
		return err
	}
	// A member that is suspended would be waited for.
	ctx, cancel := context.WithTimeout(r.ctx, 20*time.Second)
	defer cancel()
	const keys = 500
	revisions := 3000 + 50*s.amount
	err := load.Fill(ctx, r.etcd.Client, revisions, 1,
		func(i int) string { return fmt.Sprintf("%sbacklog/%03d", busy, i%keys) },
		func(i int) string { return fmt.Sprint(s.amount, ".", i) })
	r.note("backlog", err)
	_, err = r.etcd.Client.Delete(ctx, busy+"backlog/", clientv3.WithPrefix())
	r.note("delete the backlog's keys", err)
	return nil
}

// restore takes the cluster back to a snapshot that keyhook has read past.
func restore(r *testRun, s *step) error {
	if err := r.caughtUp(0); err != nil {
		return err
	}
	var snapshot lab.Snapshot
	if err := r.insist(func() (err error) {
		snapshot, err = r.etcd.Snapshot(r.ctx)
		return err
	}); err != nil {
		return err
	}
	if err := r.written(20 + 4*s.amount); err != nil {
		return err
	}
	if s.amount%3 == 0 {
		if err := compactHead(r, s); err != nil {
			return err
		}
	}
	// Both ranges have read past the snapshot, the quiet one by progress alone.
	if err := r.caughtUp(snapshot.Revision + 1); err != nil {
		return err
	}
	before, err := r.keyhook.Status(r.ctx)
	if err != nil {
		return err
	}
	r.epoch = before.Epoch
	past := int64(0)
	if s.fault == restoringUnseen {
		for _, m := range r.etcd.Members {
			m.Proxy.Cut()
		}
		if err := r.insist(func() (err error) {
			past, err = r.etcd.Revision(r.ctx)
			return err
		}); err != nil {
			return err
		}
	}
	r.era++
	if err := r.etcd.Restore(r.ctx, snapshot); err != nil {
		return err
	}
	r.story.tell("restored to revision %d, keyhook had read %+v", snapshot.Revision, before.Ranges)
	if past == 0 {
		return nil
	}
	return lab.Poll(r.ctx, func() (bool, error) {
		now, err := r.etcd.Revision(r.ctx)
		if err == nil && now <= past {
			err = fmt.Errorf("etcd is at %d, not past %d", now, past)
		}
		return err == nil, err
	})
}

// noticed waits until keyhook follows the new history. Until then its positions
// are those of the old one.
func noticed(r *testRun, s *step) error {
	if err := networkPasses(r, s); err != nil {
		return err
	}
	return lab.Poll(r.ctx, func() (bool, error) {
		st, err := r.keyhook.Status(r.ctx)
		switch {
		case err != nil:
			return false, err
		case !st.Ready || st.Epoch <= r.epoch:
			return false, fmt.Errorf("keyhook has not noticed that history is another one: %+v", st)
		}
		r.followed++
		r.story.tell("keyhook follows the new history: %+v", st.Ranges)
		return true, nil
	})
}
