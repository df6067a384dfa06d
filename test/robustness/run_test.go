package robustness

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/test/lab"
	"keyhook/test/oracle"
	"keyhook/test/receiver"
)

// concurrency of each sink.
const concurrency = 16

// stream is one range with the rule, sink and inbox of the same name.
type stream struct {
	name   string
	prefix string
	inbox  *receiver.Inbox
	// marks are all positions that were stated, counted those of which it is
	// known what was owed.
	marks, counted []oracle.Bookmark
}

// testRun is one run of a scenario.
type testRun struct {
	ctx      context.Context // with the limit of the run
	scenario scenario
	seed     uint64
	story    *story
	etcd     *lab.Cluster
	keyhook  *lab.Keyhook
	receiver *receiver.Server
	streams  []*stream
	traffic  *traffic

	ready     int64 // the revision at which keyhook was seen ready
	firstly   uint64
	kills     []oracle.Kill
	compacted []compaction
	era       int    // restores that were begun
	followed  int    // restores that keyhook has noticed
	epoch     uint64 // before the last one
	stated    stated // by keyhook, last
}

// compaction is one that was asked for.
type compaction struct {
	era      int
	revision int64
}

// rules sends every change of the two ranges to two webhooks that are retried
// soon.
func rules(streams []*stream) string {
	var b strings.Builder
	b.WriteString("sinks:\n")
	for _, s := range streams {
		fmt.Fprintf(&b, "  - name: %s\n    webhook: {url: %q, timeout: 400ms}\n    concurrency: %d\n    retry: {initial: 50ms, max: 500ms}\n",
			s.name, s.inbox.URL, concurrency)
	}
	b.WriteString("rules:\n")
	for _, s := range streams {
		fmt.Fprintf(&b, "  - name: %s\n    keys: %s{path...}\n    send: {sink: %s, headers: {%s: string(event.synthetic)}}\n",
			s.name, s.prefix, s.name, receiver.SyntheticHeader)
	}
	return b.String()
}

// setUp starts everything, and keyhook after etcd holds something.
func setUp(t *testing.T, s scenario, seed uint64, programs lab.EtcdPrograms, limit time.Duration) *testRun {
	t.Helper()
	program, err := keyhookProgram()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	r := &testRun{ctx: ctx, scenario: s, seed: seed, story: newStory(), receiver: receiver.Start(t)}
	for i, name := range []string{"busy", "quiet"} {
		inbox := r.receiver.Inbox(name)
		inbox.Follow(receiver.Failing(seed, 0.1))
		r.streams = append(r.streams, &stream{name: name, prefix: []string{busy, quiet}[i], inbox: inbox})
	}
	r.etcd = lab.StartCluster(t, programs)
	r.traffic = &traffic{client: r.etcd.Client, seed: seed}
	for _, s := range r.streams {
		if err := r.insist(func() error {
			_, err := r.etcd.Client.Put(ctx, s.prefix+"before", "what was there")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.keyhook = lab.NewKeyhook(t, program, lab.Settings{Etcd: r.etcd.Endpoints(), Rules: rules(r.streams)})
	r.keyhook.FollowCommits()
	r.keyhook.Start()
	r.keyhook.AwaitReady()
	if err := r.insist(func() (err error) {
		r.ready, err = r.etcd.Revision(ctx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	st, err := r.keyhook.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.firstly = st.Epoch
	r.story.tell("etcd %s is at revision %d, keyhook is ready", programs.Version, r.ready)
	return r
}

// insist does something that etcd may refuse at the moment until it has succeeded:
// members may hold an election whenever the machine is busy.
func (r *testRun) insist(do func() error) error {
	return lab.Poll(r.ctx, func() (bool, error) {
		err := do()
		return err == nil, err
	})
}

// cause makes the trouble of a plan while etcd is written to.
func (r *testRun) cause(steps []step) error {
	writing, stop := context.WithCancel(r.ctx)
	defer r.traffic.wait()
	defer stop()
	r.traffic.start(writing)
	if err := r.written(100); err != nil {
		return err
	}
	for i := range steps {
		if err := r.step(&steps[i]); err != nil {
			return fmt.Errorf("%s: %w", steps[i].fault, err)
		}
		if err := r.dwell(200 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *testRun) step(s *step) error {
	r.story.tell("begin %v", s)
	if err := faults[s.fault].begin(r, s); err != nil {
		return err
	}
	if s.within != nil {
		if err := r.dwell(s.dwell / 2); err != nil {
			return err
		}
		if err := r.step(s.within); err != nil {
			return err
		}
	}
	if err := r.dwell(s.dwell / 2); err != nil {
		return err
	}
	r.story.tell("end %s", s.fault)
	return faults[s.fault].end(r, s)
}

// note tells of trouble that could not be made, because of other trouble.
func (r *testRun) note(what string, err error) {
	if err != nil {
		r.story.tell("%s: %v", what, err)
	}
}

// dwell lets things go on for a while and looks at keyhook's positions.
func (r *testRun) dwell(d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-over.C:
			return nil
		case <-look.C:
			r.look()
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
	}
}

// written lets things go on until n more requests of the writers have succeeded.
// Where trouble keeps them from it, it does not wait for long.
func (r *testRun) written(n int) error {
	const patience = 5 * time.Second
	began, goal := time.Now(), r.traffic.made.Load()+int64(n)
	for r.traffic.made.Load() < goal && time.Since(began) < patience {
		if err := r.dwell(50 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// compact removes history.
func (r *testRun) compact(revision int64) {
	// Noted before: it may succeed without an answer.
	r.compacted = append(r.compacted, compaction{r.era, revision})
	err := r.etcd.Compact(r.ctx, revision)
	r.story.tell("compact up to %d", revision)
	r.note("compact", err)
}

// look takes down what keyhook says of its positions.
func (r *testRun) look() {
	if r.followed < r.era {
		return // whose history it speaks of is not known
	}
	now, err := r.keyhook.Status(r.ctx)
	if err != nil {
		return // it has been killed, or is not up yet
	}
	// A position is stated a moment before what it owes is counted: that has
	// happened when a commit that was begun later has ended.
	then := r.stated
	counted := then.life == len(r.kills) && now.Commit.Sequence > then.Commit.Sequence+1
	for _, s := range r.streams {
		arrived := s.inbox.Arrived()
		mark := oracle.Bookmark{At: time.Now(), Arrived: arrived, Owed: oracle.Unstated}
		if mark.Position = r.position(now, s); mark.Position.Revision > 0 {
			s.marks = append(s.marks, mark)
		}
		if counted && r.position(then.Status, s).Revision > 0 {
			s.counted = append(s.counted, oracle.Bookmark{
				At: then.at, Arrived: arrived, Position: oracle.Moment{Era: then.era, Revision: r.position(then.Status, s).Revision}, Owed: owed(now, s),
			})
		}
	}
	if counted || then.life != len(r.kills) || then.era != r.era {
		r.stated = stated{Status: now, at: time.Now(), life: len(r.kills), era: r.era}
	}
}

// stated is a status with what is known of when it was.
type stated struct {
	lab.Status
	at        time.Time
	life, era int
}

func (r *testRun) position(st lab.Status, s *stream) oracle.Moment {
	for _, rng := range st.Ranges {
		if rng.Range == s.prefix {
			return oracle.Moment{Era: r.era, Revision: rng.Position}
		}
	}
	return oracle.Moment{}
}

func owed(st lab.Status, s *stream) int {
	for _, sink := range st.Sinks {
		if sink.Name == s.name {
			return sink.Owed
		}
	}
	return oracle.Unstated
}

// caughtUp waits until keyhook is ready and every range has come to a revision.
func (r *testRun) caughtUp(revision int64) error {
	const often = 5 * time.Second // enough to see what a long wait was about
	last := time.Now()
	return lab.Poll(r.ctx, func() (bool, error) {
		err := r.behind(revision)
		if err != nil && time.Since(last) > often {
			last = time.Now()
			r.story.tell("waiting: %v", err)
		}
		return err == nil, err
	})
}

// behind says why keyhook has not caught up, nil if it has.
func (r *testRun) behind(revision int64) error {
	st, err := r.keyhook.Status(r.ctx)
	switch {
	case err != nil:
		return err
	case !st.Ready:
		return fmt.Errorf("keyhook is not ready: %s", strings.Join(st.Reasons, "; "))
	}
	for _, rng := range st.Ranges {
		if rng.Position < revision {
			return fmt.Errorf("%s is at %d, not %d", rng.Range, rng.Position, revision)
		}
	}
	return nil
}

// settle waits until nothing can happen any more: etcd rests, and keyhook has
// read and delivered everything.
func (r *testRun) settle() error {
	var leases *clientv3.LeaseLeasesResponse
	err := r.insist(func() (err error) {
		leases, err = r.etcd.Client.Leases(r.ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, lease := range leases.Leases {
		_, err := r.etcd.Client.Revoke(r.ctx, lease.ID)
		r.note("revoke", err) // it may have expired
	}
	var put *clientv3.PutResponse
	if err := r.insist(func() (err error) {
		put, err = r.etcd.Client.Put(r.ctx, elsewhere+"end", "")
		return err
	}); err != nil {
		return err
	}
	r.story.tell("etcd rests at revision %d: %d requests of the writers have succeeded, %d failed",
		put.Header.Revision, r.traffic.made.Load(), r.traffic.failed.Load())
	if !r.keyhook.Running() {
		r.keyhook.Start()
	}
	if err := r.caughtUp(put.Header.Revision); err != nil {
		return fmt.Errorf("%s: %w", oracle.Bookmarkable, err)
	}
	r.story.tell("keyhook has read everything")
	quiet := 0
	err = lab.Poll(r.ctx, func() (bool, error) {
		r.look()
		st, err := r.keyhook.Status(r.ctx)
		if err != nil {
			return false, err
		}
		quiet++
		for _, sink := range st.Sinks {
			if sink.Owed > 0 {
				quiet, err = 0, fmt.Errorf("%s is owed %d deliveries", sink.Name, sink.Owed)
			}
		}
		// What was admitted last may not have been counted yet.
		return quiet == 20, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", oracle.Reliable, err)
	}
	r.story.tell("keyhook has delivered everything")
	return nil
}
