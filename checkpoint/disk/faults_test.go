package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

// flushing is a store whose memtables are small, so that a few commits make it
// flush and merge tables.
var flushing = Config{Dir: "data", memtable: 64 << 10}

// A crash at any write, whatever of the unsynced data it leaves, is a crash
// before or after the commit that is under way.
func TestACrashAtAnyWriteIsBeforeOrAfterACommit(t *testing.T) {
	script, states := script(t)
	rng := rand.New(rand.NewPCG(1, 2))
	mem := vfs.NewCrashableMem()
	var crashes []*vfs.MemFS
	var mu sync.Mutex
	s := openAgain(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && rng.IntN(3*everyNth) == 0 {
			crashes = append(crashes, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		}
		return nil
	})))
	take := func() (taken []*vfs.MemFS) {
		mu.Lock()
		defer mu.Unlock()
		taken, crashes = crashes, nil
		return taken
	}
	take()
	total := 0
	for i := range script {
		if err := s.Commit(t.Context(), &script[i]); err != nil {
			t.Fatalf("commit %d: %v", i+1, err)
		}
		within := take()
		total += len(within)
		for _, c := range within {
			same(t, dumpOf(t, c), states[i:i+2]...)
		}
		same(t, dumpOf(t, mem.CrashClone(vfs.CrashCloneCfg{})), states[i+1])
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if total < len(script)/everyNth {
		t.Fatalf("only %d crashes within %d commits", total, len(script))
	}
}

// One write fails, whichever it is: the process goes on, no acknowledged commit
// is lost, and none is there by half.
func TestAFailureOfAnyOneWriteLosesNothing(t *testing.T) {
	everyWrite(t, 1, func(i int64) (errorfs.InjectorFunc, func() bool) {
		var n atomic.Int64
		return func(op errorfs.Op) error {
			if counts(op) && n.Add(1) == i {
				return syscall.EIO
			}
			return nil
		}, func() bool { return n.Load() >= i }
	})
}

// The disk is full from one write on, whichever it is, for some writes.
func TestAFullDiskLosesNothing(t *testing.T) {
	everyWrite(t, everyNth/2+1, func(i int64) (errorfs.InjectorFunc, func() bool) {
		var n atomic.Int64
		return func(op errorfs.Op) error {
			if counts(op) {
				if k := n.Add(1); k >= i && k < i+5 {
					return fmt.Errorf("write: %w", syscall.ENOSPC)
				}
			}
			return nil
		}, func() bool { return n.Load() >= i }
	})
}

// A disk that is full at the start, on whichever write that shows: the error says
// how much room there must be, and the next try goes on.
func TestAStartWithoutRoomSaysHowMuchIsWanted(t *testing.T) {
	existing, want := filled(t)
	for name, mem := range map[string]*vfs.MemFS{"a new directory": vfs.NewMem(), "one that holds something": existing} {
		mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 3 << 20, TotalBytes: 1 << 40})
		var left atomic.Int64
		filesystem := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if counts(op) && left.Add(-1) < 0 {
				return &fs.PathError{Op: "write", Path: op.Path, Err: syscall.ENOSPC}
			}
			return nil
		}))
		refusals := 0
		for n := int64(0); ; n++ {
			left.Store(n)
			s, err := open(Config{Dir: "data"}, filesystem)
			if err == nil {
				left.Store(1 << 40)
				closed(t, s)
				break
			}
			refused(t, err, checkpoint.ErrFull)
			if !strings.Contains(err.Error(), "3 MiB are free, at least 65 MiB must be free") {
				t.Fatalf("%s, write %d: %v", name, n, err)
			}
			refusals++
		}
		if refusals < 2 {
			t.Errorf("%s: it needs %d writes only", name, refusals)
		}
	}
	same(t, dumpOf(t, existing), want)
}

// counts reports whether op is a write that may fail. Removing is no business
// of the disk's being full, and closing frees.
func counts(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }

// everyWrite runs the script with a failure of the i-th write, for every i from
// first on. arm returns what injects it, and whether it has happened.
func everyWrite(t *testing.T, first int64, arm func(i int64) (errorfs.InjectorFunc, func() bool)) {
	t.Helper()
	script, states := script(t)
	i := first
	for ; ; i += everyNth {
		injector, happened := arm(i)
		mem := vfs.NewCrashableMem()
		failing := errorfs.Wrap(mem, injector)
		s := openAgain(t, failing)
		for c := range script {
			commitAgain(t, s, &script[c])
		}
		stats := s.Stats()
		same(t, dumpAgain(t, s), states[len(script)])
		same(t, dumpOf(t, mem.CrashClone(vfs.CrashCloneCfg{})), states[len(script)])
		if err := s.Close(); err != nil && happened() && stats.Reopened == 0 {
			t.Logf("failure %d came at the close: %v", i, err)
		}
		same(t, dumpOf(t, mem), states[len(script)])
		if !happened() {
			break
		}
	}
	if i < 100 {
		t.Fatalf("the script makes %d writes only", i)
	}
	t.Logf("some %d writes", i)
}

// openAgain opens a directory as often as a supervisor would start the process.
func openAgain(t *testing.T, filesystem vfs.FS) *Store {
	t.Helper()
	var err error
	for range 20 {
		var s *Store
		if s, err = open(flushing, filesystem); err == nil {
			return s
		}
	}
	t.Fatalf("open: %v", err)
	return nil
}

// commitAgain does as the contract says: after an unknown outcome, look and
// commit the same again.
func commitAgain(t *testing.T, s *Store, c *checkpoint.Commit) {
	t.Helper()
	var err error
	for range 20 {
		if err = s.Commit(t.Context(), c); err == nil {
			return
		}
		if errors.Is(err, checkpoint.ErrInvalid) || errors.Is(err, checkpoint.ErrFenced) || errors.Is(err, ErrDamaged) {
			break
		}
		state, loadErr := s.Load(t.Context(), c.Shard)
		if loadErr == nil && state.Sequence != c.Sequence && state.Sequence != c.Sequence-1 {
			t.Fatalf("sequence %d while committing %d", state.Sequence, c.Sequence)
		}
	}
	t.Fatalf("commit %d: %v", c.Sequence, err)
}

// dumpOf opens what is in a file system, as after a restart.
func dumpOf(t *testing.T, filesystem vfs.FS) string {
	t.Helper()
	s, err := open(flushing, filesystem)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	return dump(t, s)
}

func dump(t *testing.T, b checkpointtest.Backend) string {
	t.Helper()
	content, err := dumpErr(t, b)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func dumpErr(t *testing.T, b checkpointtest.Backend) (string, error) {
	t.Helper()
	return checkpointtest.Dump(t.Context(), b, 0)
}

// dumpAgain reads as often as it takes for the disk to work.
func dumpAgain(t *testing.T, s *Store) string {
	t.Helper()
	var err error
	for range 20 {
		var content string
		if content, err = checkpointtest.Dump(t.Context(), s, 0); err == nil {
			return content
		}
	}
	t.Fatal(err)
	return ""
}

func same(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if got == w {
			return
		}
	}
	t.Fatalf("got\n%.2000s\nwant one of\n%.2000s", got, want)
}

// script returns commits that use all there is, and what is there after each.
func script(t *testing.T) (commits []checkpoint.Commit, states []string) {
	t.Helper()
	m := checkpointtest.NewMemory()
	states = append(states, dump(t, m))
	g := checkpointtest.NewGenerator(rand.New(rand.NewPCG(7, 7)))
	for range 25 {
		c := g.Next()
		if err := m.Commit(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
		commits, states = append(commits, c), append(states, dump(t, m))
	}
	return commits, states
}
