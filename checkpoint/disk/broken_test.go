package disk

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keyhook/checkpoint/checkpointtest"
)

// A database goes on for a moment behind a failed write: tables that it makes
// then hold nothing. Whoever reads them is told of the write, not of damage.
func TestATableBehindAFailedWriteIsNoDamage(t *testing.T) {
	s, err := open(Config{Dir: "data"}, vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, s)
	g := checkpointtest.NewGenerator(rand.New(rand.NewPCG(3, 3)))
	for range 5 {
		c := g.Next()
		if err := s.Commit(t.Context(), &c); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, s)

	db, err := s.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db.fence.trip(syscall.EIO)
	if err := db.Flush(); err != nil {
		t.Logf("flush: %v", err)
	}
	_, err = db.load(0)
	if err == nil {
		t.Fatal("a dropped table was read")
	}
	if failed := s.failed(db, err); errors.Is(failed, ErrDamaged) || !errors.Is(failed, syscall.EIO) {
		t.Errorf("%v (%v)", failed, err)
	}
	s.release(db)

	same(t, dump(t, s), want)
}
