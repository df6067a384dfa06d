package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The files of a data directory.
const (
	lockName     = "LOCK"
	markerName   = "KEYHOOK"     // makes the directory ours; the last thing that is created
	creatingName = "KEYHOOK.new" // in its place until everything is there; or its next version
	databaseName = "db"
	instanceName = "instance.json"
)

// formatVersion is that of the keys and of the directory. Records have versions
// of their own.
const formatVersion = 1

// engineVersion is the format that Pebble writes. It grows with Pebble, and an
// older keyhook must be told so in words of its own.
const engineVersion = pebble.FormatNewest

// marker is the content of KEYHOOK.
type marker struct {
	Format int `json:"format"`
	Engine int `json:"engine"`
}

// directory is a locked data directory.
type directory struct {
	fs   vfs.FS
	path string
	lock io.Closer
}

// openDirectory locks path, creating it if there is nothing. It refuses what is
// not ours before it touches anything.
func openDirectory(filesystem vfs.FS, path string) (_ *directory, err error) {
	d := &directory{fs: filesystem, path: path}
	if err := d.create(); err != nil {
		return nil, err
	}
	if _, err := d.isNew(); err != nil {
		return nil, err
	}
	if d.lock, err = filesystem.Lock(d.join(lockName)); err != nil {
		return nil, lockError(filesystem, path, err)
	}
	return d, nil
}

func (d *directory) join(name string) string { return d.fs.PathJoin(d.path, name) }

func (d *directory) database() string { return d.join(databaseName) }

// tighten takes the directory, which is ours, from everybody but its owner: it
// holds what is owed, and that may hold secrets. It returns the mode that it
// could not change, 0 if all is well.
func (d *directory) tighten(chmod func(string, fs.FileMode) error) (open fs.FileMode, err error) {
	if d.fs != vfs.Default {
		return 0, nil // has no modes, or not ours to change
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return 0, err
	}
	const others = 0o077
	if info.Mode().Perm()&others == 0 {
		return 0, nil
	}
	if err := chmod(d.path, info.Mode()&^others); err != nil {
		return info.Mode().Perm(), err
	}
	return 0, nil
}

// create makes the directory.
func (d *directory) create() error {
	switch info, err := d.fs.Stat(d.path); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return foreign(d.path, "a file")
	case !errors.Is(err, fs.ErrNotExist):
		return explain(d.path, err)
	}
	return explain(d.path, d.fs.MkdirAll(d.path, 0o700))
}

// syncAbove makes the name of the directory durable, and those of the ones
// above it: any of them may have been created with it, also by a start that was
// cut short.
func (d *directory) syncAbove() error {
	for path := d.path; ; {
		above := d.fs.PathDir(path)
		if above == path {
			return nil
		}
		if err := d.syncDir(above); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		path = above
	}
}

// isNew reports whether the directory was never completed: it is empty, or a
// crash has cut its creation short, before which nothing was acknowledged.
func (d *directory) isNew() (bool, error) {
	names, err := d.fs.List(d.path)
	if err != nil {
		return false, explain(d.path, err)
	}
	if slices.Contains(names, markerName) {
		return false, nil
	}
	creating := slices.Contains(names, creatingName)
	slices.Sort(names)
	for _, name := range names {
		switch {
		case name == lockName, name == creatingName, name == "lost+found":
		case name == databaseName && creating:
		default:
			return false, foreign(d.path, name)
		}
	}
	return true, nil
}

// begin prepares the directory for a database of this version to be opened, and
// reports whether that is a new one. The marker names the version first: what
// it says is never behind what is there.
func (d *directory) begin() (isNew bool, err error) {
	if isNew, err = d.isNew(); err != nil {
		return false, err
	}
	if isNew {
		if err := d.syncAbove(); err != nil {
			return false, explain(d.path, err)
		}
		if err := d.writeMarker(creatingName); err != nil {
			return false, explain(d.path, err)
		}
		if err := d.fs.RemoveAll(d.database()); err != nil {
			return false, explain(d.path, err)
		}
		return true, explain(d.path, d.fs.MkdirAll(d.database(), 0o700))
	}
	m, err := d.readMarker()
	if err != nil {
		return false, err
	}
	if m.Engine < int(engineVersion) {
		err = d.complete()
	}
	return false, explain(d.path, err)
}

// complete makes the directory one of ours, of this version.
func (d *directory) complete() error {
	if err := d.writeMarker(creatingName); err != nil {
		return err
	}
	if err := d.fs.Rename(d.join(creatingName), d.join(markerName)); err != nil {
		return err
	}
	return d.syncDir(d.path)
}

func (d *directory) readMarker() (marker, error) {
	content, err := readFile(d.fs, d.join(markerName))
	if err != nil {
		return marker{}, explain(d.path, err)
	}
	var m marker
	if err := json.Unmarshal(content, &m); err != nil {
		return marker{}, damaged(d.path, fmt.Errorf("%s: %w", markerName, err))
	}
	switch {
	case m.Format < 1 || m.Engine < 1:
		return marker{}, damaged(d.path, fmt.Errorf("%s: it names no version", markerName))
	case m.Format > formatVersion || m.Engine > int(engineVersion):
		return marker{}, newer(d.path, fmt.Errorf("it has format %d.%d, this keyhook reads up to %d.%d",
			m.Format, m.Engine, formatVersion, int(engineVersion)))
	}
	return m, nil
}

func (d *directory) writeMarker(name string) error {
	content, err := json.Marshal(marker{Format: formatVersion, Engine: int(engineVersion)})
	if err != nil {
		return err
	}
	return d.writeFile(name, append(content, '\n'))
}

// writeFile makes name hold content, durably.
func (d *directory) writeFile(name string, content []byte) error {
	if err := writeFile(d.fs, d.join(name), content); err != nil {
		return err
	}
	return d.syncDir(d.path)
}

func (d *directory) syncDir(path string) error {
	dir, err := d.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func writeFile(filesystem vfs.FS, path string, content []byte) error {
	file, err := filesystem.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// maxFile bounds what is read of the small files.
const maxFile = 64 << 10

func readFile(filesystem vfs.FS, path string) ([]byte, error) {
	file, err := filesystem.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile))
	return content, errors.Join(err, file.Close())
}
