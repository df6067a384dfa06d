package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Instance is how the other commands find the process that holds a directory.
type Instance struct {
	ID      string `json:"id"`      // new with every start
	Address string `json:"address"` // of the admin interface, host:port; empty while it starts
	PID     int    `json:"pid"`
}

// Announce writes in for [ReadInstance] to find until Close. A reader sees all
// of it or what was there before.
func (s *Store) Announce(in Instance) error {
	content, err := json.Marshal(in)
	if err != nil {
		return err
	}
	const temporary = instanceName + ".tmp"
	if err := s.dir.writeFile(temporary, append(content, '\n')); err != nil {
		return explain(s.dir.path, err)
	}
	if err := s.dir.fs.Rename(s.dir.join(temporary), s.dir.join(instanceName)); err != nil {
		return explain(s.dir.path, err)
	}
	return explain(s.dir.path, s.dir.syncDir(s.dir.path))
}

// withdraw removes what Announce wrote, or what a process that was killed has
// left behind.
func (d *directory) withdraw() error {
	if err := d.fs.Remove(d.join(instanceName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadInstance returns what the process that holds dir has announced, without
// asking for the directory. The error is [fs.ErrNotExist] if there is none. A
// process that was killed leaves it behind: only an answer at the address, with
// the same id, shows that it lives.
func ReadInstance(dir string) (Instance, error) { return readInstance(vfs.Default, dir) }

func readInstance(filesystem vfs.FS, dir string) (Instance, error) {
	content, err := readFile(filesystem, filesystem.PathJoin(dir, instanceName))
	if err != nil {
		return Instance{}, err
	}
	var in Instance
	if err := json.Unmarshal(content, &in); err != nil {
		return Instance{}, fmt.Errorf("%s: %w", instanceName, err)
	}
	return in, nil
}
