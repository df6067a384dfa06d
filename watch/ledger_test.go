package watch

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
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
	most     int           // Admit takes no more once there are so many events; 0: it does
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
	full := l.most > 0 && len(l.events) >= l.most
	l.mu.Unlock()
	if failure != nil {
		return failure
	}
	if full {
		<-ctx.Done()
		return ctx.Err()
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
