package oracle

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// Digest stands for a value, so that the histories of large values fit into
// memory.
type Digest uint64

// DigestOf returns the digest of a value.
func DigestOf[T string | []byte](value T) Digest { return Digest(xxhash.Sum64([]byte(value))) }

// Type says what happened to a key, in the words of the payload.
type Type string

// Types.
const (
	Put    Type = "PUT"
	Delete Type = "DELETE"
)

// Change is one entry of etcd's history.
type Change struct {
	Revision, Sub int64
	Type          Type
	Key           string
	Value         Digest // of a Put
	Created       int64  // create_revision of a Put
	Version       int64  // of a Put
	Lease         int64  // of a Put
	Prev          *Change

	// Era counts the restores before the change. Restored is set for what a key
	// held, or that it held nothing, when an era began: no change, but what a
	// restore made of the key.
	Era      int
	Restored bool
	base     int64 // the revision at which the era began
}

func (c *Change) String() string {
	if c.Restored {
		return fmt.Sprintf("%s %q at %d, restored at %v", c.Type, c.Key, c.Revision, c.Moment())
	}
	return fmt.Sprintf("%s %q at %d/%d%s", c.Type, c.Key, c.Revision, c.Sub, eraSuffix(c.Era))
}

// History is a run of etcd's changes in the order in which they happened.
type History []*Change

// ReadHistory reads the history that the database file at path holds: a snapshot
// or that of a stopped etcd. What was compacted is not in it.
func ReadHistory(path string) (History, error) {
	db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open etcd's database: %w", err)
	}
	var h History
	err = db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket([]byte("key"))
		if bucket == nil {
			return fmt.Errorf("%s has no bucket %q: not a database of etcd", path, "key")
		}
		return bucket.ForEach(func(k, v []byte) error {
			c, err := parse(k, v)
			if err != nil {
				return err
			}
			h = append(h, c)
			return nil
		})
	})
	if closing := db.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return nil, err
	}
	return Join(h), nil
}

// parse reads one record. Its key is the revision as 8 bytes, "_" and the place
// within the revision as 8 bytes, followed by "t" where a key was deleted.
func parse(k, v []byte) (*Change, error) {
	deleted := len(k) == 18 && k[17] == 't'
	if (len(k) != 17 && !deleted) || k[8] != '_' {
		return nil, fmt.Errorf("no key of a revision: %x", k)
	}
	var kv mvccpb.KeyValue
	if err := proto.Unmarshal(v, &kv); err != nil {
		return nil, fmt.Errorf("revision %x: %w", k, err)
	}
	c := &Change{
		Revision: int64(binary.BigEndian.Uint64(k[:8])),
		Sub:      int64(binary.BigEndian.Uint64(k[9:17])),
		Type:     Put,
		Key:      string(kv.GetKey()),
		Value:    DigestOf(kv.GetValue()),
		Created:  kv.GetCreateRevision(),
		Version:  kv.GetVersion(),
		Lease:    kv.GetLease(),
	}
	if deleted {
		c.Type, c.Value, c.Created, c.Version, c.Lease = Delete, 0, 0, 0, 0
	}
	return c, nil
}

// Join unites histories of the same etcd that were read at different times, and
// says of each change what its key held before. Reading once before a compaction
// and once at the end gives the whole.
func Join(parts ...History) History {
	h := slices.Concat(parts...)
	slices.SortStableFunc(h, func(a, b *Change) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Sub, b.Sub))
	})
	h = slices.CompactFunc(h, func(a, b *Change) bool { return a.Revision == b.Revision && a.Sub == b.Sub })
	held := make(map[string]*Change)
	for _, c := range h {
		c.Prev = held[c.Key]
		if c.Type == Put {
			held[c.Key] = c
		} else {
			delete(held, c.Key)
		}
	}
	return h
}

// Revision returns the last revision of h, 0 if it is empty.
func (h History) Revision() int64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Revision
}

// After returns the changes of later revisions.
func (h History) After(revision int64) History {
	first, _ := slices.BinarySearchFunc(h, revision+1, func(c *Change, r int64) int { return cmp.Compare(c.Revision, r) })
	return h[first:]
}

// Under returns the changes of the keys that keep holds for.
func (h History) Under(keep func(key string) bool) History {
	var kept History
	for _, c := range h {
		if keep(c.Key) {
			kept = append(kept, c)
		}
	}
	return kept
}
