package watch

import (
	"bytes"
	"context"
	"errors"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// known is what the mirror holds of a key, without the value.
type known struct {
	key                  []byte
	deleted              bool
	mod, create, version int64
	hash                 uint64 // xxHash64 of the value
}

func knownOf(e *checkpoint.KeyEntry) known {
	return known{
		key: bytes.Clone(e.Key), deleted: e.Deleted,
		mod: e.Revision, create: e.CreateRevision, version: e.Version, hash: xxhash.Sum64(e.Value),
	}
}

// difference is a key of which the mirror holds something else than etcd.
type difference struct {
	known *known           // nil if the mirror holds nothing
	kv    *mvccpb.KeyValue // nil if etcd does not have the key
}

func (d *difference) key() []byte {
	if d.kv != nil {
		return d.kv.GetKey()
	}
	return d.known.key
}

// live reports whether the key is there, as far as the mirror knows.
func (d *difference) live() bool { return d.known != nil && !d.known.deleted }

// differences holds against each other what the mirror and etcd hold of the same
// keys, both in key order, and returns the keys that differ. With whole set, values and versions count; else it is
// taken that what was written by the same revision is the same.
func differences(mirror []known, kvs []*mvccpb.KeyValue, whole bool) []difference {
	var found []difference
	for len(mirror) > 0 || len(kvs) > 0 {
		var order int
		switch {
		case len(kvs) == 0:
			order = -1
		case len(mirror) == 0:
			order = 1
		default:
			order = bytes.Compare(mirror[0].key, kvs[0].GetKey())
		}
		var d difference
		if order <= 0 {
			d.known, mirror = &mirror[0], mirror[1:]
		}
		if order >= 0 {
			d.kv, kvs = kvs[0], kvs[1:]
		}
		if d.differs(whole) {
			found = append(found, d)
		}
	}
	return found
}

func (d *difference) differs(whole bool) bool {
	switch {
	case d.kv == nil:
		return d.live()
	case !d.live() || d.known.mod != d.kv.GetModRevision():
		return true
	case !whole:
		return false
	default:
		return d.known.create != d.kv.GetCreateRevision() || d.known.version != d.kv.GetVersion() || d.known.hash != xxhash.Sum64(d.kv.GetValue())
	}
}

// contradicts reports whether d cannot be if etcd's history contains everything
// that was read before revision next: the key was written before that, but what
// was read then is something else.
func (d *difference) contradicts(next int64) bool {
	switch {
	case d.kv == nil:
		return false
	case d.known != nil && d.kv.GetModRevision() < d.known.mod:
		return true // also of a deleted key: it was deleted after that
	default:
		return d.kv.GetModRevision() < next
	}
}

// comparison walks through a range, of which it compares one part after the
// other. A part of etcd is bounded by keys of the mirror, not by a limit alone:
// etcd counts the keys of a request up to its end, under a lock that writes need,
// so that pages over the rest of a range cost time that grows with its square.
type comparison struct {
	etcd history
	// source returns what is known of the keys from cursor on, up to the end of
	// the range at most.
	source func(ctx context.Context, cursor []byte) (*part, error)
	rng    keyhook.Range
	rev    int64
	whole  bool // with values
	size   pageSize

	read bool // part is that of where the comparison stands
	part part
}

// part is what is known of some keys, in order.
type part struct {
	keys []known
	end  []byte // of the part; empty if it is the last one and the range has no end
	last bool   // the range ends with it
	pos  keyhook.Position
}

// mirrored returns what the mirror holds of the first keys of r.
func mirrored(ctx context.Context, m checkpoint.Mirror, shard uint32, r keyhook.Range, limit int) (*part, error) {
	p := &part{end: r.End, last: true}
	for e, err := range m.Entries(ctx, shard, r) {
		if err != nil {
			return nil, err
		}
		if len(p.keys) == limit {
			p.end, p.last = bytes.Clone(e.Key), false
			break
		}
		p.keys = append(p.keys, knownOf(&e))
	}
	return p, nil
}

// next compares from cursor on. It returns what differs and the key it has come
// to, nil at the end of the range. errCompacted: the revision is gone.
func (c *comparison) next(ctx context.Context, cursor []byte) (found []difference, to []byte, err error) {
	if !c.read {
		p, err := c.source(ctx, cursor)
		if err != nil {
			return nil, nil, err
		}
		c.part, c.read = *p, true
	}
	var p page
	for {
		p, err = c.etcd.page(ctx, keyhook.Range{Start: cursor, End: c.part.end}, c.rev, c.size.limit, pageSlack*c.size.target, !c.whole)
		if !errors.Is(err, errTooLarge) {
			break
		}
		c.size.tooLarge()
	}
	if err != nil {
		return nil, nil, err
	}
	c.size.received(p.kvs)
	mirror := c.part.keys
	if p.more {
		to = append(bytes.Clone(p.kvs[len(p.kvs)-1].GetKey()), 0)
		n := 0
		for n < len(mirror) && bytes.Compare(mirror[n].key, to) < 0 {
			n++
		}
		mirror, c.part.keys = mirror[:n], mirror[n:]
	} else {
		to, c.read = c.part.end, false
		if c.part.last {
			to = nil
		}
	}
	return differences(mirror, p.kvs, c.whole), to, nil
}
