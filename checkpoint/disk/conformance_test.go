package disk

import (
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"keyhook/checkpoint/checkpointtest"
)

func TestStoreInFiles(t *testing.T) {
	t.Parallel()
	checkpointtest.Run(t, func(t *testing.T) checkpointtest.Place {
		return &place{cfg: Config{Dir: filepath.Join(t.TempDir(), "data")}, fs: vfs.Default}
	})
}

func TestStoreInMemory(t *testing.T) {
	t.Parallel()
	checkpointtest.Run(t, func(*testing.T) checkpointtest.Place {
		return &place{cfg: Config{Dir: "data"}, fs: vfs.NewMem()}
	})
}

// place is a directory that a test opens again and again.
type place struct {
	cfg  Config
	fs   vfs.FS
	last *Store
}

func (p *place) Open(t *testing.T) checkpointtest.Backend {
	t.Helper()
	if p.last != nil {
		if err := p.last.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	s, err := open(p.cfg, p.fs)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	p.last = s
	return s
}
