package lab

import (
	"context"
	"time"
)

// commits follows what keyhook says of its commits.
type commits struct {
	heard   []statement // of which none is known yet to be past
	durable time.Time
}

// statement is a sequence that keyhook has called durable.
type statement struct {
	asked    time.Time
	sequence uint64
}

// says takes what keyhook said, asked at a moment, of the commit that was durable.
// The next commit may have been begun before that; the one behind it has all that
// had succeeded when keyhook was asked.
func (c *commits) says(asked time.Time, sequence uint64) {
	for len(c.heard) > 0 && sequence >= c.heard[0].sequence+2 {
		c.durable = c.heard[0].asked
		c.heard = c.heard[1:]
	}
	if last := len(c.heard) - 1; last >= 0 && c.heard[last].sequence == sequence {
		c.heard[last].asked = asked
		return
	}
	c.heard = append(c.heard, statement{asked, sequence})
}

// following is what follows the commits of one process.
type following struct {
	commits commits
	stop    context.CancelFunc
	done    chan struct{}
}

// FollowCommits makes keyhook be asked for its commits whenever it runs, for
// [Keyhook.Durable]. It is called before keyhook is started.
func (k *Keyhook) FollowCommits() { k.follows = true }

// Durable returns a moment at which all that had succeeded was written down
// before keyhook ended, but for what was in flight: zero if nothing is known to be
// since it was started.
func (k *Keyhook) Durable() time.Time {
	k.t.Helper()
	if k.following == nil || k.proc.running() {
		k.t.Fatal("the commits of a process that has ended are to be followed")
	}
	k.following.end()
	return k.following.commits.durable
}

// follow begins to ask the process that was just started.
func (k *Keyhook) follow() {
	ctx, stop := context.WithCancel(context.Background())
	f := &following{stop: stop, done: make(chan struct{})}
	k.following = f
	k.t.Cleanup(f.end)
	go func() {
		defer close(f.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			asked := time.Now()
			if st, err := k.Status(ctx); err == nil { // it may not be up yet, or gone
				f.commits.says(asked, st.Commit.Sequence)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
}

func (f *following) end() {
	f.stop()
	<-f.done
}
