package watch

import (
	"context"
	"errors"
)

var errNoRanges = errors.New("no range is watched")

// Head reads linearizably at which revision etcd is: whatever was committed
// before the call is at or below it. The permission to read one of the ranges
// suffices. An error is that of another cluster as well.
func (w *Watcher) Head(ctx context.Context) (revision int64, err error) {
	ranges := w.wanted()
	if len(ranges) == 0 {
		return 0, errNoRanges
	}
	for _, rng := range ranges {
		h, failed := w.etcd.head(ctx, rng)
		if failed != nil {
			err = classify(rng, w.cfg.Client.Username, failed)
			continue
		}
		if id, _ := w.identity.get(); h.cluster != id.ClusterID {
			return 0, wrongClusterError(rng, id.ClusterID, h.cluster)
		}
		return h.revision, nil
	}
	return 0, err
}
