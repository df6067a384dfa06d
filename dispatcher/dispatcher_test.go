package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
	"keyhook/dispatcher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is a sink whose answers the test gives.
type receiver struct {
	mu     sync.Mutex
	got    []string
	answer func(ctx context.Context, d *keyhook.Delivery) error
	closed bool
}

func (r *receiver) Deliver(ctx context.Context, ds []*keyhook.Delivery) []error {
	errs := make([]error, len(ds))
	for i, d := range ds {
		if r.answer != nil {
			errs[i] = r.answer(ctx, d)
		}
		r.mu.Lock()
		if errs[i] == nil {
			r.got = append(r.got, d.ID)
		}
		r.mu.Unlock()
	}
	return errs
}

func (r *receiver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

func (r *receiver) delivered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// process is a dispatcher that runs.
type process struct {
	*dispatcher.Dispatcher
	stop func() error
}

func start(t *testing.T, cfg dispatcher.Config) *process {
	t.Helper()
	d, err := dispatcher.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return &process{d, stop}
}

func batch(ids ...string) *dispatcher.Batch {
	b := &dispatcher.Batch{}
	for _, id := range ids {
		b.Deliveries = append(b.Deliveries, &keyhook.Delivery{
			ID: id, Rule: "r", Send: "s", Sink: "s",
			Event: &keyhook.Event{Type: keyhook.Put, Key: []byte(id[:1]), Revision: 1, Time: time.Now()},
		})
	}
	return b
}

func admit(t *testing.T, d *process, ids ...string) {
	t.Helper()
	if err := d.Admit(t.Context(), batch(ids...)); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, d *process) {
	t.Helper()
	if err := d.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %d, want %d: %.200v, %.200v", what, len(got), len(want), got, want)
	}
}

// pass lets time go by: that of the bubble, which costs none.
func pass(d time.Duration) { <-time.After(d) }

func owed(t *testing.T, s checkpoint.Store) (n int) {
	t.Helper()
	for _, err := range s.Owed(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestWhatSucceedsBetweenTwoCommitsIsNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		var written int
		store.SetHooks(checkpointtest.Hooks{BeforeCommit: func(_ context.Context, c *checkpoint.Commit) error {
			written += len(c.Admitted)
			return nil
		}})
		r := &receiver{}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}})
		admit(t, d, "a1", "a2", "b1")
		synctest.Wait()
		flush(t, d)
		got := r.delivered()
		slices.Sort(got)
		equal(t, "delivered", got, []string{"a1", "a2", "b1"})
		if written != 0 {
			t.Fatalf("%d deliveries were written", written)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		if !r.closed {
			t.Fatal("the sink was not closed")
		}
	})
}

func TestAStopGivesGraceAndRepeatsOnlyWhatItCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		r := &receiver{answer: func(ctx context.Context, d *keyhook.Delivery) error {
			wait := time.Second // within the grace
			if d.ID == "b1" {
				wait = time.Hour
			}
			select {
			case <-time.After(wait):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}
		d := start(t, dispatcher.Config{Store: store, Grace: 5 * time.Second, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r, Retry: dispatcher.Retry{MaxAttempts: 1}}}})
		admit(t, d, "a1", "b1", "a2")
		synctest.Wait()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		equal(t, "delivered by the first", r.delivered(), []string{"a1"})
		if err := d.Admit(t.Context(), batch("c1")); !errors.Is(err, dispatcher.ErrStopped) {
			t.Fatalf("admit after the stop: %v", err)
		}

		second := &receiver{}
		d = start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: second, Retry: dispatcher.Retry{MaxAttempts: 1}}}})
		synctest.Wait()
		got := second.delivered()
		slices.Sort(got)
		equal(t, "delivered by the second", got, []string{"a2", "b1"})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
		if n := owed(t, store); n != 0 {
			t.Fatalf("%d still owed", n)
		}
	})
}

func TestWhileCommitsFailNothingIsSentOrAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		full := true
		var mu sync.Mutex
		store.SetHooks(checkpointtest.Hooks{BeforeCommit: func(context.Context, *checkpoint.Commit) error {
			mu.Lock()
			defer mu.Unlock()
			if full {
				return checkpoint.ErrFull
			}
			return nil
		}})
		r := &receiver{answer: func(_ context.Context, d *keyhook.Delivery) error {
			if d.Retry.Attempts == 0 && d.ID == "a1" {
				return errors.New("503")
			}
			return nil
		}}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r, Retry: dispatcher.Retry{Initial: 10 * time.Second}}}})
		admit(t, d, "a1")
		pass(time.Second)
		if st := d.Status(); !st.Stalled || st.CommitError == "" {
			t.Fatalf("not stalled: %+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := d.Admit(ctx, batch("b1")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("admitted while commits fail: %v", err)
		}
		equal(t, "delivered", r.delivered(), nil)

		mu.Lock()
		full = false
		mu.Unlock()
		admit(t, d, "b1")
		flush(t, d)
		if st := d.Status(); st.Stalled || st.CommitError != "" {
			t.Fatalf("still stalled: %+v", st)
		}
		synctest.Wait()
		equal(t, "delivered", r.delivered(), []string{"b1"})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestACommitThatFallsBehindStopsSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		release := make(chan struct{})
		store.SetHooks(checkpointtest.Hooks{BeforeCommit: func(context.Context, *checkpoint.Commit) error {
			<-release
			return nil
		}})
		r := &receiver{}
		d := start(t, dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}})
		admit(t, d, "a1")
		pass(time.Second)
		admit(t, d, "a2")
		pass(5 * time.Second)
		if !d.Status().Stalled {
			t.Fatal("a commit that takes 6 s did not stop anything")
		}
		close(release)
		synctest.Wait()
		admit(t, d, "a3")
		synctest.Wait()
		equal(t, "delivered", r.delivered(), []string{"a1", "a2", "a3"})
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestADeposedOwnerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		store.SetHooks(checkpointtest.Hooks{BeforeCommit: func(context.Context, *checkpoint.Commit) error { return checkpoint.ErrFenced }})
		d, err := dispatcher.Open(t.Context(), dispatcher.Config{Store: store, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: &receiver{}}}})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := d.Admit(t.Context(), batch("a1")); err != nil {
				t.Error(err)
			}
		}()
		if err := d.Run(t.Context()); !errors.Is(err, checkpoint.ErrFenced) {
			t.Fatalf("Run: %v", err)
		}
	})
}

// A sink that hangs with more owed than memory holds must not slow another one.
func TestADeadSinkSpillsAndAnotherGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := checkpointtest.NewMemory()
		var up sync.Map
		r := &receiver{answer: func(ctx context.Context, d *keyhook.Delivery) error {
			if _, ok := up.Load("s"); !ok {
				return errors.New("refused")
			}
			return nil
		}}
		healthy := &receiver{}
		d := start(t, dispatcher.Config{
			Store: store, MemoryBudget: 100_000, UncommittedBudget: 50_000,
			Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}, {Name: "h", Deliverer: healthy}},
		})
		const n = 3000
		var want []string
		for i := range n {
			b := batch(fmt.Sprintf("%c%d", 'a'+i%7, i), fmt.Sprintf("h%d", i))
			b.Deliveries[0].Message.Body = make([]byte, 500)
			b.Deliveries[1].Sink = "h"
			want = append(want, b.Deliveries[1].ID)
			if err := d.Admit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, d)
		pass(time.Second)
		equal(t, "the healthy sink", healthy.delivered(), want)
		st := d.Status()
		if st.MemoryBytes > 150_000 || st.Sinks[1].Owed != n {
			t.Fatalf("%d bytes in memory, %d owed", st.MemoryBytes, st.Sinks[1].Owed)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}

		up.Store("s", true)
		d = start(t, dispatcher.Config{Store: store, MemoryBudget: 100_000, Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r}}})
		pass(30 * time.Minute)
		last := map[byte]int{}
		for _, id := range r.delivered() {
			var i int
			if _, err := fmt.Sscanf(id[1:], "%d", &i); err != nil {
				t.Fatal(err)
			}
			if i < last[id[0]] {
				t.Fatalf("%s was delivered after %d of its key", id, last[id[0]])
			}
			last[id[0]] = i
		}
		if got := len(r.delivered()); got != n {
			t.Fatalf("%d delivered of %d", got, n)
		}
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatIsFlushedIsDurable(t *testing.T) {
	store := checkpointtest.NewMemory()
	d := start(t, dispatcher.Config{Store: store})
	for i := range int64(2000) {
		b := &dispatcher.Batch{States: []checkpoint.RangeState{{Range: keyhook.Prefix([]byte("/")), Position: keyhook.After(i)}}}
		if err := d.Admit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		flush(t, d)
		st, err := store.Load(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Ranges) != 1 || st.Ranges[0].Position != keyhook.After(i) {
			t.Fatalf("after the flush of position %d the store holds %v", i, st.Ranges)
		}
	}
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
}

// A healthy sink that cannot keep up holds intake back: etcd keeps the history as
// well as the disk would. But not for ever, or compaction would overtake it.
func TestASinkWithItsHandsFullHoldsIntakeBackForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(context.Context, *keyhook.Delivery) error {
			pass(10 * time.Millisecond) // 100 a second
			return nil
		}}
		d := start(t, dispatcher.Config{Store: checkpointtest.NewMemory(), Sinks: []dispatcher.Sink{{Name: "s", Deliverer: r, Concurrency: 1}}})
		var admitted atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var producing sync.WaitGroup
		producing.Go(func() {
			for n := 0; ; n += 10 {
				b := &dispatcher.Batch{}
				for i := range 10 {
					id := fmt.Sprint(n + i)
					b.Deliveries = append(b.Deliveries, &keyhook.Delivery{
						ID: id, Rule: "r", Send: "s", Sink: "s",
						Event:   &keyhook.Event{Type: keyhook.Put, Key: []byte(id), Revision: 1, Time: time.Now()},
						Message: keyhook.Message{Body: make([]byte, 10_000)},
					})
				}
				if d.Admit(ctx, b) != nil {
					return
				}
				admitted.Add(10)
				pass(time.Millisecond) // 10,000 a second, if it may
			}
		})
		pass(20 * time.Second)
		if n := admitted.Load(); n < 2000 || n > 2200 {
			t.Fatalf("%d admitted in 20 s by a sink that takes 2000", n)
		}
		pass(20 * time.Second)
		if n := admitted.Load(); n < 90_000 {
			t.Fatalf("%d admitted in 40 s: intake was held back for longer than it may", n)
		}
		if st := d.Status(); st.MemoryBytes > 70<<20 {
			t.Fatalf("%d bytes in memory", st.MemoryBytes)
		}
		cancel()
		producing.Wait()
		if err := d.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
