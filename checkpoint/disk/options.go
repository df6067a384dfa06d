package disk

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// What the database may hold in memory. A commit that is larger than half of a
// memtable is one by itself for as long as it takes to flush it. Memtables count
// towards the cache: if it were not larger than all of them, it would keep no
// block while much is written, and each look-up would read filters from files.
const (
	defaultCache = memtables*memtableSize + 16<<20
	memtableSize = 8 << 20
	memtables    = 3 // writes wait for a flush beyond that
	maxOpenFiles = 500
)

// options returns how the database is opened.
func (s *Store) options(f *fence) *pebble.Options {
	o := &pebble.Options{
		FS:                          f,
		Cache:                       s.cache,
		FormatMajorVersion:          engineVersion,
		MemTableSize:                s.memtable,
		MemTableStopWritesThreshold: memtables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       40,
		LBaseMaxBytes:               32 << 20,
		MaxOpenFiles:                maxOpenFiles,
		WALBytesPerSync:             512 << 10, // so that a sync finds little left to write
		Logger:                      &engineLog{log: s.log, fence: f},
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 2 },
	}
	o.EventListener = &pebble.EventListener{
		BackgroundError: func(err error) {
			if f.broken() == nil {
				s.log.Error("data directory: work in the background failed", "error", err)
			}
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			s.log.Error("data directory: damaged", "file", info.Path, "error", info.Details)
		},
	}
	for i := range o.Levels {
		l := &o.Levels[i]
		l.FilterPolicy = bloom.FilterPolicy(10) // most look-ups are for keys that are new
		l.Compression = func() *sstable.CompressionProfile { return block.SnappyCompression }
	}
	return o
}

// engineLog passes on what of Pebble's log concerns keyhook.
type engineLog struct {
	log   *slog.Logger
	fence *fence
}

// Infof drops what Pebble tells of its own house: it is no help to somebody who
// wants to know what keyhook does.
func (l *engineLog) Infof(string, ...any) {}

func (l *engineLog) Errorf(format string, args ...any) {
	if l.fence.broken() == nil {
		l.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
	}
}

// Fatalf is where Pebble expects the process to end. Writes that fail do not
// lead here, since the fence keeps them to itself. What does is a file that
// cannot be read where it must be, or a contradiction. Nothing that follows may
// reach the disk; Pebble then unwinds with the error that it had.
func (l *engineLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if l.fence.broken() == nil {
		l.log.Error("data directory: the database stopped", "error", err)
	}
	l.fence.trip(err)
}
