package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// Whatever is committed, and however often the store is closed, loses power or
// fails a write in between: it holds what the store in memory holds.
func TestTheStoreHoldsWhatTheStoreInMemoryHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := checkpointtest.NewGenerator(rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)))
		model := checkpointtest.NewMemory()
		mem := vfs.NewCrashableMem()
		var fail atomic.Int64
		failing := func() vfs.FS {
			return errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if counts(op) && fail.Add(-1) == 0 {
					return syscall.EIO
				}
				return nil
			}))
		}
		s := openAgain(t, failing())
		for range rapid.IntRange(1, 12).Draw(rt, "commits") {
			switch rapid.IntRange(0, 5).Draw(rt, "before it") {
			case 0:
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = openAgain(t, failing())
			case 1:
				crashed := mem.CrashClone(vfs.CrashCloneCfg{})
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				mem = crashed
				s = openAgain(t, failing())
			case 2:
				fail.Store(int64(rapid.IntRange(1, 10).Draw(rt, "the write that fails")))
			}
			c := g.Next()
			if err := model.Commit(t.Context(), &c); err != nil {
				rt.Fatal(err)
			}
			commitAgain(t, s, &c)
			fail.Store(0)
			if got, want := dumpAgain(t, s), dump(t, model); got != want {
				rt.Fatalf("got\n%.2000s\nwant\n%.2000s", got, want)
			}
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestWithoutRoomNothingIsWrittenUntilThereIs(t *testing.T) {
	mem := vfs.NewMem()
	avail := func(n uint64) { mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40}) }
	avail(1 << 30)
	s, err := open(Config{Dir: "data", Reserve: 100 << 20}, mem)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	small := checkpoint.Commit{Term: 1, Sequence: 1}
	large := checkpoint.Commit{Term: 1, Sequence: 2, Mirror: []checkpoint.MirrorChange{
		{Key: []byte("a"), Entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: make([]byte, 1<<20)}}},
	}}

	avail(100<<20 - 1)
	refusedFull(t, s, &small)
	avail(101 << 20)
	commit(t, s, &small)
	refusedFull(t, s, &large)
	if state, err := s.Load(t.Context(), 0); err != nil || state.Sequence != 1 {
		t.Fatalf("sequence %d, %v", state.Sequence, err)
	}
	if e, err := s.Lookup(t.Context(), 0, []byte("a")); err != nil || e != nil {
		t.Fatalf("entry %v, %v", e, err)
	}
	avail(0)
	commit(t, s, &small) // it is there already
	avail(105 << 20)
	commit(t, s, &large)
}

// Those who read while a write fails, and the database is opened again below
// them, read on or are told so. Those who come afterwards read what is durable.
func TestReadersOutliveAFailure(t *testing.T) {
	mem := vfs.NewMem()
	var fail atomic.Bool
	s, err := open(flushing, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSyncData && fail.CompareAndSwap(true, false) {
			return syscall.EIO
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	commit(t, s, entries(1, "v1"))

	seen := 0
	for e, err := range s.Entries(t.Context(), 0, keyhook.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen == 0 {
			fail.Store(true)
			if err := s.Commit(t.Context(), entries(2, "v2")); err == nil || errors.Is(err, checkpoint.ErrFull) {
				t.Fatalf("commit: %v, want an unknown outcome", err)
			}
			commit(t, s, entries(2, "v2"))
			if e, err := s.Lookup(t.Context(), 0, []byte("key0")); err != nil || string(e.Value) != "v2" {
				t.Fatalf("a new reader sees %+v, %v", e, err)
			}
		}
		if string(e.Value) != "v1" {
			t.Fatalf("the reader that was there before sees %s", e.Value)
		}
		seen++
	}
	if seen != 100 {
		t.Fatalf("%d entries", seen)
	}
	if st := s.Stats(); st.Reopened != 1 || st.Bytes == 0 {
		t.Fatalf("stats %+v", st)
	}
}

func TestOneCommitsWhileOthersRead(t *testing.T) {
	s, err := open(flushing, vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	commit(t, s, entries(1, "v1"))
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				n, value := 0, ""
				for e, err := range s.Entries(t.Context(), 0, keyhook.Range{}) {
					if err != nil || n > 0 && string(e.Value) != value {
						t.Errorf("entry %q after %q, %v", e.Value, value, err)
						return
					}
					n, value = n+1, string(e.Value)
				}
				if _, err := s.Load(t.Context(), 0); err != nil || n != 100 {
					t.Errorf("%d entries, %v", n, err)
					return
				}
				s.Stats()
			}
		})
	}
	for i := range uint64(100) {
		commit(t, s, entries(i+2, fmt.Sprint("v", i+2)))
	}
	stop()
	readers.Wait()
}

// What Pebble calls fatal ends no process, and nothing of what follows is
// written.
func TestWhatIsFatalToTheDatabaseIsNotToTheProcess(t *testing.T) {
	mem := vfs.NewMem()
	s, err := open(flushing, mem)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	commit(t, s, entries(1, "v1"))
	(&engineLog{log: s.log, fence: s.db.fence}).Fatalf("contradiction %d", 7)
	if err := s.db.fence.broken(); err == nil || !strings.Contains(err.Error(), "contradiction 7") {
		t.Fatalf("the fence is broken by %v", err)
	}
	commit(t, s, entries(2, "v2"))
	same(t, dumpOf(t, clone(t, mem)), dump(t, s))
	if st := s.Stats(); st.Reopened != 1 {
		t.Fatalf("stats %+v", st)
	}
}

// Pebble talks a lot of its tables and logs, also where nothing is wrong.
func TestTheDatabaseKeepsItsOwnNewsToItself(t *testing.T) {
	var log bytes.Buffer
	mem, _ := filled(t)
	cfg := flushing
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := open(cfg, mem)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if log.Len() > 0 {
		t.Errorf("it logs\n%s", &log)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n, " admissions of 1 KiB"), func(b *testing.B) {
			benchmark(b, n, func(i, j int) checkpoint.Commit {
				c := checkpoint.Commit{NextOrdinal: 1 << 62}
				body := make([]byte, 1024)
				for k := range n {
					ordinal := uint64(i*n + k + 1)
					c.Admitted = append(c.Admitted, checkpoint.Admission{Lane: 1, Chain: ordinal % 100, Delivery: &keyhook.Delivery{
						ID: "1-00112233445566778899aabbccddeeff", Rule: "failover", Send: "page", Sink: "pager", Ordinal: ordinal,
						Event:   &keyhook.Event{Type: keyhook.Put, Key: []byte("/service/a"), Value: body[:100], Revision: 7},
						Message: keyhook.Message{ContentType: "application/json", Body: body},
					}})
					if i > 0 {
						settled := ordinal - uint64(n)
						c.Settled = append(c.Settled, checkpoint.Ref{Lane: 1, Chain: settled % 100, Ordinal: settled})
					}
				}
				return c
			})
		})
	}
	b.Run("1000 mirror changes of 1 KiB", func(b *testing.B) {
		benchmark(b, 1000, func(i, _ int) checkpoint.Commit {
			c := checkpoint.Commit{}
			value := make([]byte, 1024)
			for k := range 1000 {
				c.Mirror = append(c.Mirror, checkpoint.MirrorChange{
					Key:   fmt.Appendf(nil, "/service/%d", (i*1000+k)%50_000),
					Entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: value, Revision: int64(i)}},
				})
			}
			return c
		})
	})
}

func benchmark(b *testing.B, each int, next func(i, each int) checkpoint.Commit) {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}()
	first := checkpoint.Commit{Term: 1, Sequence: 1, Lanes: []checkpoint.Lane{{Number: 1, Rule: "failover", Send: "page", Sink: "pager"}}}
	if err := s.Commit(b.Context(), &first); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		b.StopTimer()
		c := next(i, each)
		c.Term, c.Sequence = 1, uint64(i)+2
		i++
		b.StartTimer()
		if err := s.Commit(b.Context(), &c); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(each*i)/b.Elapsed().Seconds(), "records/s")
}

// entries is a commit that sets a hundred keys to value.
func entries(sequence uint64, value string) *checkpoint.Commit {
	c := &checkpoint.Commit{Term: 1, Sequence: sequence}
	for i := range 100 {
		c.Mirror = append(c.Mirror, checkpoint.MirrorChange{
			Key: fmt.Appendf(nil, "key%d", i), Entry: &checkpoint.Entry{KeyValue: keyhook.KeyValue{Value: []byte(value)}},
		})
	}
	return c
}

func commit(t *testing.T, s *Store, c *checkpoint.Commit) {
	t.Helper()
	if err := s.Commit(t.Context(), c); err != nil {
		t.Fatalf("commit %d: %v", c.Sequence, err)
	}
}

func refusedFull(t *testing.T, s *Store, c *checkpoint.Commit) {
	t.Helper()
	if err := s.Commit(t.Context(), c); !errors.Is(err, checkpoint.ErrFull) {
		t.Fatalf("commit %d: %v, want ErrFull", c.Sequence, err)
	}
}

func closed(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// clone copies the data directory, without what holds it.
func clone(t *testing.T, mem *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	copied := vfs.NewMem()
	if ok, err := vfs.Clone(mem, copied, "data", "data"); !ok || err != nil {
		t.Fatalf("clone: %v, %v", ok, err)
	}
	return copied
}
