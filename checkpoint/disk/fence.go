package disk

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is the file system of one opening of the database. Once a write has
// failed, or seal was called, it takes all writes and drops them, so that the
// disk stays as it was at that moment and the database above can be closed as
// if nothing had happened. Reads go on.
//
// Removing is different: a file that could not be removed is only in the way,
// and the error goes up. Once broken, nothing is removed either.
type fence struct {
	vfs.FS
	mu    sync.RWMutex // held for reading by every write that is under way
	cause atomic.Pointer[error]
}

// broken returns why the fence drops writes; nil while it does not.
func (f *fence) broken() error {
	if p := f.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// trip drops all writes that begin from now on.
func (f *fence) trip(err error) { f.cause.CompareAndSwap(nil, &err) }

// seal drops all writes from now on, and waits for those that are under way.
func (f *fence) seal(err error) {
	f.trip(err)
	f.mu.Lock()   // when every writer has gone
	f.mu.Unlock() //nolint:gocritic,staticcheck // there is nothing to do in between
}

// write runs op unless the fence is broken, and breaks it if op fails. It
// reports whether op has taken place.
func (f *fence) write(op func() error) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.broken() != nil {
		return false
	}
	if err := op(); err != nil {
		f.trip(err)
		return false
	}
	return true
}

// try is as write for what may fail without harm.
func (f *fence) try(op func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.broken() != nil {
		return nil
	}
	return op()
}

// create opens a file for writing; a dropped one if the fence is broken.
func (f *fence) create(name string, open func() (vfs.File, error)) vfs.File {
	var file vfs.File
	if !f.write(func() (err error) { file, err = open(); return err }) {
		return &fencedFile{File: &dropped{name: f.PathBase(name)}, fence: f}
	}
	return &fencedFile{File: file, fence: f}
}

func (f *fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.Create(name, category) }), nil
}

func (f *fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) }), nil
}

func (f *fence) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(newname, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, category) }), nil
}

func (f *fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fencedFile{File: dir, fence: f}, nil
}

func (f *fence) Link(oldname, newname string) error {
	f.write(func() error { return f.FS.Link(oldname, newname) })
	return nil
}

func (f *fence) Rename(oldname, newname string) error {
	f.write(func() error { return f.FS.Rename(oldname, newname) })
	return nil
}

func (f *fence) Remove(name string) error {
	return f.try(func() error { return f.FS.Remove(name) })
}

func (f *fence) RemoveAll(name string) error {
	return f.try(func() error { return f.FS.RemoveAll(name) })
}

func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	return f.try(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Lock locks nothing: the store holds its directory over all openings.
func (f *fence) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file, or a directory, that may be written.
type fencedFile struct {
	vfs.File
	fence *fence
}

func (f *fencedFile) Write(p []byte) (int, error) {
	f.fence.write(func() error { return full(f.File.Write(p))(len(p)) })
	return len(p), nil
}

func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	f.fence.write(func() error { return full(f.File.WriteAt(p, off))(len(p)) })
	return len(p), nil
}

func full(n int, err error) func(want int) error {
	return func(want int) error {
		if err == nil && n < want {
			return io.ErrShortWrite
		}
		return err
	}
}

func (f *fencedFile) Sync() error {
	f.fence.write(f.File.Sync)
	return nil
}

func (f *fencedFile) SyncData() error {
	f.fence.write(f.File.SyncData)
	return nil
}

func (f *fencedFile) SyncTo(length int64) (fullSync bool, err error) {
	f.fence.write(func() (err error) { fullSync, err = f.File.SyncTo(length); return err })
	return fullSync, nil
}

func (f *fencedFile) Preallocate(offset, length int64) error {
	return f.fence.try(func() error { return f.File.Preallocate(offset, length) })
}

// Close always closes the file below. A failure of it is one of a write.
func (f *fencedFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.fence.trip(err)
	}
	return nil
}

// dropped is a file that was created behind a broken fence: it swallows what is
// written and holds nothing.
type dropped struct {
	name string
}

var errDropped = errors.New("the file was dropped after a failed write")

func (d *dropped) Close() error                           { return nil }
func (d *dropped) Read([]byte) (int, error)               { return 0, errDropped }
func (d *dropped) ReadAt([]byte, int64) (int, error)      { return 0, errDropped }
func (d *dropped) Write(p []byte) (int, error)            { return len(p), nil }
func (d *dropped) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (d *dropped) Preallocate(int64, int64) error         { return nil }
func (d *dropped) Prefetch(int64, int64) error            { return nil }
func (d *dropped) Sync() error                            { return nil }
func (d *dropped) SyncData() error                        { return nil }
func (d *dropped) SyncTo(int64) (bool, error)             { return false, nil }
func (d *dropped) Fd() uintptr                            { return vfs.InvalidFd }
func (d *dropped) Stat() (vfs.FileInfo, error)            { return droppedInfo{d.name}, nil }

type droppedInfo struct {
	name string
}

func (i droppedInfo) Name() string           { return i.name }
func (i droppedInfo) Size() int64            { return 0 }
func (i droppedInfo) Mode() os.FileMode      { return 0o600 }
func (i droppedInfo) ModTime() time.Time     { return time.Time{} }
func (i droppedInfo) IsDir() bool            { return false }
func (i droppedInfo) Sys() any               { return nil }
func (i droppedInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
