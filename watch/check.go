package watch

import (
	"context"
	"errors"
	"fmt"

	"keyhook"
	"keyhook/checkpoint"
)

// check reads linearizably whether etcd's history still contains pos, as far as
// that shows in the revision and in the anchor. A watch from a revision that does
// not exist yet would be accepted, and skip changes. It returns the revision.
func (r *runner) check(ctx context.Context, pos keyhook.Position, anchor *checkpoint.Anchor) (head int64, err error) {
	h, err := r.etcd.head(ctx, r.rng)
	if err != nil {
		return 0, err
	}
	if err := r.sameCluster(h); err != nil {
		return 0, err
	}
	read := pos.Revision()
	if pos.Admitted > 0 {
		read = pos.Next
	}
	if h.revision < read {
		return 0, r.behind(h, read)
	}
	return h.revision, r.recognise(ctx, pos, anchor)
}

// behind is the error of an etcd that has fewer revisions than were read.
func (r *runner) behind(h head, read int64) error {
	return rolledBackError(r.rng, fmt.Errorf("etcd is at revision %d, but changes up to revision %d were read from it before", h.revision, read))
}

func (r *runner) sameCluster(h head) error {
	r.seen.sawHead(h)
	if id, _ := r.identity.get(); h.cluster != id.ClusterID {
		return wrongClusterError(r.rng, id.ClusterID, h.cluster)
	}
	return nil
}

// gone reports whether the changes at pos are compacted, for a watch that was
// created when etcd was at revision head. etcd creates a watch from a compacted
// revision like any other, and cancels it only when it comes to serve it, which
// may take 100 ms; what was not there at the creation cannot be told from what
// is merely quiet until then.
//
// The boundary is that of the watch: both it and a read fail at revisions below
// the compacted one, which itself can be read and watched. A watch that begins
// after head misses nothing and needs no read; what its own member was at says
// nothing of the others.
func (r *runner) gone(ctx context.Context, pos keyhook.Position, head int64) (bool, error) {
	if pos.Next > head {
		return false, nil
	}
	key, _ := bounds(r.rng)
	_, err := r.etcd.at(ctx, key, pos.Next)
	if errors.Is(err, errCompacted) {
		return true, nil
	}
	return false, err
}
