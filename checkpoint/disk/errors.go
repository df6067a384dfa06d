package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"keyhook/checkpoint"
	"keyhook/checkpoint/record"
)

// What may be wrong with a directory. All of them come as an [Error].
var (
	// ErrInUse means that another process holds the directory.
	ErrInUse = errors.New("in use by another process")
	// ErrForeign means that the directory belongs to something else.
	ErrForeign = errors.New("not a directory of keyhook")
	// ErrAccess means that the operating system does not let this process use the
	// directory.
	ErrAccess = errors.New("cannot be used")
	// ErrNewer means that a newer keyhook wrote the directory.
	ErrNewer = errors.New("written by a newer keyhook")
	// ErrDamaged means that what was written is not what is there.
	ErrDamaged = errors.New("damaged")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// Error is a directory that cannot be used as it is.
type Error struct {
	Reason error // one of the variables above, or [checkpoint.ErrFull]
	Dir    string
	Err    error // what was found; may be nil

	hint string
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("data directory %s: %v", e.Dir, e.Reason)
	}
	what, _, _ := strings.Cut(e.Err.Error(), "\n") // Pebble adds lines for its own use
	return fmt.Sprintf("data directory %s: %v: %s", e.Dir, e.Reason, what)
}

// Hint says what to do about it.
func (e *Error) Hint() string { return e.hint }

func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// inUse names the holder, if it has announced itself.
func inUse(filesystem vfs.FS, dir string) error {
	var holder error
	if in, err := readInstance(filesystem, dir); err == nil {
		holder = fmt.Errorf("pid %d", in.PID)
		if in.Address != "" {
			holder = fmt.Errorf("pid %d, which answers at http://%s", in.PID, in.Address)
		}
	}
	return &Error{Reason: ErrInUse, Dir: dir, Err: holder,
		hint: "stop the other keyhook, or give this one a directory of its own in checkpoint.disk.dir"}
}

func foreign(dir, name string) error {
	return &Error{Reason: ErrForeign, Dir: dir, Err: fmt.Errorf("it holds %q, but no %s", name, markerName),
		hint: "give checkpoint.disk.dir an empty directory, or one that does not exist yet"}
}

func newer(dir string, err error) error {
	return &Error{Reason: ErrNewer, Dir: dir, Err: err,
		hint: "run the version of keyhook that wrote it, or a newer one"}
}

func damaged(dir string, err error) error {
	return &Error{Reason: ErrDamaged, Dir: dir, Err: err,
		hint: "restore the directory from a copy; or move it away to start anew, which loses what is owed and the positions"}
}

// access is what the operating system has against the directory.
func access(dir string, err error) error {
	e := &Error{Reason: ErrAccess, Dir: dir, Err: err,
		hint: fmt.Sprintf("let uid %d create, read and write it, or give checkpoint.disk.dir another place", os.Geteuid())}
	switch {
	case errors.Is(err, syscall.EROFS):
		e.hint = "the file system is read-only: give checkpoint.disk.dir a place on another, such as a volume"
	case errors.Is(err, syscall.ENOTDIR):
		e.hint = "a part of the path is a file: give checkpoint.disk.dir another place"
	}
	return e
}

// noRoom is a file system without room for what has to be written.
func noRoom(dir string, err error) error {
	return &Error{Reason: checkpoint.ErrFull, Dir: dir, Err: err,
		hint: "free some space there, or give checkpoint.disk.dir a place on another file system"}
}

// explain gives what Pebble and the records say about the directory its type.
func explain(dir string, err error) error {
	var tooNew *record.NewerError
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case noSpace(err):
		return noRoom(dir, err)
	case errors.As(err, &tooNew):
		return newer(dir, err)
	case errors.Is(err, record.ErrMalformed), pebble.IsCorruptionError(err), errors.Is(err, pebble.ErrDBDoesNotExist):
		return damaged(dir, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR):
		return access(dir, err)
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}

// explainOpening is explain for what comes from opening a database that was
// there: whatever the operating system has nothing against is damage, and so is
// a file that is missing.
func explainOpening(dir string, err error) error {
	var code syscall.Errno
	if errors.As(err, &code) && code != syscall.ENOENT {
		return explain(dir, err)
	}
	return damaged(dir, err)
}

func noSpace(err error) bool { return vfs.IsNoSpaceError(err) || errors.Is(err, syscall.EDQUOT) }

// lockError tells a directory that is held already from one that cannot be
// locked at all. A second store in this process has no error of its own, with
// Pebble's file systems.
func lockError(filesystem vfs.FS, dir string, err error) error {
	var file *fs.PathError
	var code syscall.Errno
	switch {
	case errors.As(err, &file): // it could not be opened
		return explain(dir, err)
	case errors.As(err, &code) && code != syscall.EAGAIN && code != syscall.EACCES:
		return explain(dir, err)
	}
	return inUse(filesystem, dir)
}
