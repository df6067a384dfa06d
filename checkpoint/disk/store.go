package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"keyhook/checkpoint"
)

var (
	_ checkpoint.Store  = (*Store)(nil)
	_ checkpoint.Mirror = (*Store)(nil)
)

// Config is what a Store needs to know.
type Config struct {
	// Dir is the data directory. It is created if it does not exist. It is made
	// readable by its owner alone, as far as that can be done.
	Dir string
	// Reserve is how many bytes a commit leaves free on the disk, beyond what it
	// may take itself. Default 64 MiB; negative: none.
	Reserve int64
	// CacheSize bounds the cache of what is on the disk and what waits to be put
	// there, in bytes together. Default 40 MiB, of which 16 MiB are never taken by
	// what waits.
	CacheSize int64
	// Logger is told of failures. Default: nobody.
	Logger *slog.Logger

	memtable uint64                          // its size, for tests that want flushes; default memtableSize
	chmod    func(string, fs.FileMode) error // for tests of directories of others; default os.Chmod
}

const defaultReserve = 64 << 20

// Store is a data directory that this process holds.
type Store struct {
	dir      *directory
	log      *slog.Logger
	reserve  int64
	memtable uint64
	cache    *pebble.Cache
	chmod    func(string, fs.FileMode) error

	writing sync.Mutex // held by a commit
	enc     encoder    // guarded by writing

	mu     sync.Mutex // guards what follows
	db     *database  // nil after a failure
	closed bool
	opened int // how often
	open   sync.WaitGroup
}

// database is one opening of the database. It is closed when it has been
// retired and nobody uses it any more.
type database struct {
	*pebble.DB
	fence *fence

	users   int  // guarded by Store.mu
	retired bool // guarded by Store.mu

	loading sync.Mutex
	states  map[uint32]*checkpoint.State // of the shards seen so far; guarded by loading
	sweeps  map[uint32]*sweep            // guarded by Store.writing
}

// Open takes the directory and opens the database in it. Where the directory
// cannot be used as it is, the error is an [Error]. With [checkpoint.ErrFull]
// there is no room to begin; it may be called again when there is.
func Open(cfg Config) (*Store, error) { return open(cfg, vfs.Default) }

func open(cfg Config, filesystem vfs.FS) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no data directory is given")
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = defaultReserve
	}
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = defaultCache
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.memtable == 0 {
		cfg.memtable = memtableSize
	}
	if cfg.chmod == nil {
		cfg.chmod = os.Chmod
	}
	dir, err := openDirectory(filesystem, cfg.Dir)
	if err != nil {
		return nil, roomWanted(err, filesystem, cfg)
	}
	s := &Store{
		dir: dir, log: cfg.Logger, reserve: max(cfg.Reserve, 0), memtable: cfg.memtable, cache: pebble.NewCache(cfg.CacheSize), chmod: cfg.chmod,
	}
	if err := s.begin(); err != nil {
		s.cache.Unref()
		return nil, errors.Join(roomWanted(err, filesystem, cfg), dir.lock.Close())
	}
	return s, nil
}

// roomWanted adds to the error of an Open that found no room how much there
// should be.
func roomWanted(err error, filesystem vfs.FS, cfg Config) error {
	var found *Error
	if !errors.As(err, &found) || !errors.Is(found.Reason, checkpoint.ErrFull) {
		return err
	}
	wanted := fmt.Sprintf("at least %d MiB must be free", max(cfg.Reserve, 0)>>20+1)
	usage, unknown := filesystem.GetDiskUsage(cfg.Dir)
	if unknown != nil { // it does not exist
		usage, unknown = filesystem.GetDiskUsage(filesystem.PathDir(cfg.Dir))
	}
	if unknown == nil {
		wanted = fmt.Sprintf("%d MiB are free, %s", usage.AvailBytes>>20, wanted)
	}
	return noRoom(cfg.Dir, fmt.Errorf("%s: %w", wanted, found.Err))
}

// begin opens the database for the first time.
func (s *Store) begin() error {
	isNew, err := s.dir.begin()
	if err != nil {
		return err
	}
	if open, err := s.dir.tighten(s.chmod); err != nil {
		s.log.Warn("data directory: others than its owner may look into it", "dir", s.dir.path, "mode", fmt.Sprintf("%04o", open), "error", err)
	}
	if err := s.dir.withdraw(); err != nil {
		return explain(s.dir.path, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reopen(isNew); err != nil {
		return err
	}
	if !isNew {
		return nil
	}
	if err := s.dir.complete(); err != nil {
		return errors.Join(explain(s.dir.path, err), s.retire(s.db))
	}
	return nil
}

// reopen opens the database. s.mu is held.
func (s *Store) reopen(create bool) error {
	f := &fence{FS: s.dir.fs}
	options := s.options(f)
	options.ErrorIfNotExists = !create
	db, err := pebble.Open(s.dir.database(), options)
	broken := f.broken()
	if err == nil && broken == nil {
		s.db = &database{DB: db, fence: f, states: make(map[uint32]*checkpoint.State), sweeps: make(map[uint32]*sweep)}
		s.open.Add(1)
		s.opened++
		return nil
	}
	f.seal(errors.Join(broken, err))
	switch {
	case broken == nil && create:
		return explain(s.dir.path, err)
	case broken == nil:
		return explainOpening(s.dir.path, err)
	}
	// The writes of the recovery went nowhere: the next one has to do them.
	if err == nil {
		broken = errors.Join(broken, db.Close())
	}
	return explain(s.dir.path, broken)
}

// acquire returns the database, opening it again after a failure. The caller
// releases it.
func (s *Store) acquire(ctx context.Context) (*database, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.db != nil {
		if cause := s.db.fence.broken(); cause != nil {
			s.log.Warn("data directory: a write failed, opening it again", "dir", s.dir.path, "error", cause)
			if err := s.retire(s.db); err != nil {
				s.log.Debug("data directory: closing after a failure", "error", err)
			}
		}
	}
	if s.db == nil {
		if err := s.room(0); err != nil {
			return nil, err
		}
		if err := s.reopen(false); err != nil {
			return nil, err
		}
	}
	s.db.users++
	return s.db, nil
}

func (s *Store) release(db *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db.users--; db.retired && db.users == 0 {
		if err := s.shut(db); err != nil {
			s.log.Debug("data directory: closing after a failure", "error", err)
		}
	}
}

// retire takes db out of use; the last of its users closes it. If it failed,
// nothing that it still does reaches the disk. s.mu is held.
func (s *Store) retire(db *database) error {
	if cause := db.fence.broken(); cause != nil {
		db.fence.seal(cause)
	}
	s.db, db.retired = nil, true
	if db.users > 0 {
		return nil
	}
	return s.shut(db)
}

func (s *Store) shut(db *database) error {
	defer s.open.Done()
	var err error
	if db.fence.broken() == nil {
		err = db.Flush() // the next start has nothing to recover
	}
	err = errors.Join(err, db.Close())
	if cause := db.fence.broken(); cause != nil {
		return errors.Join(cause, err)
	}
	return err
}

// failed explains what went wrong above db. Behind a failed write the database
// may read tables that never reached the disk: that is no damage of the
// directory, and the next opening knows nothing of them.
func (s *Store) failed(db *database, err error) error {
	switch cause := db.fence.broken(); {
	case err == nil:
		return nil
	case cause == nil, errors.Is(err, checkpoint.ErrInvalid), errors.Is(err, checkpoint.ErrFenced), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return explain(s.dir.path, err)
	default:
		return explain(s.dir.path, cause)
	}
}

// room reports whether a commit of size bytes may be written, and ErrFull if
// not. A file system that cannot say how much room it has always has some.
func (s *Store) room(size int) error {
	usage, err := s.dir.fs.GetDiskUsage(s.dir.path)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return explain(s.dir.path, err)
	}
	// A commit is written to the log, to a table, and again when tables are merged.
	const copies = 4
	if need := uint64(s.reserve) + copies*uint64(size); usage.AvailBytes < need { //nolint:gosec // neither is negative
		return noRoom(s.dir.path, fmt.Errorf("%d MiB are free, %d MiB must be", usage.AvailBytes>>20, need>>20+1))
	}
	return nil
}

// Stats tells how the store does.
type Stats struct {
	Bytes    uint64 // on the disk
	Reopened int    // how often the database was opened again after a failure
}

// Stats returns the current figures. Bytes is 0 while the database is not open.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Reopened: s.opened - 1}
	if s.db != nil {
		st.Bytes = s.db.Metrics().DiskSpaceUsage()
	}
	return st
}

// Close waits for what is going on and gives the directory back. Nothing that
// was committed needs it.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var err error
	if s.db != nil {
		err = s.retire(s.db)
	}
	s.mu.Unlock()
	s.open.Wait()
	s.cache.Unref()
	s.enc = encoder{}
	return explain(s.dir.path, errors.Join(err, s.dir.withdraw(), s.dir.lock.Close()))
}

// encoder holds what commits use again and again.
type encoder struct {
	key, value []byte
	buf        bytes.Buffer
}
