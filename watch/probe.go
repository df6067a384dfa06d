package watch

import (
	"context"
	"time"

	"keyhook"
)

// probe learns now and then what only the operator needs to know: how far etcd
// is compacted, and whether a member has known defects. It is best effort: what
// cannot be learnt is left out, and whether etcd can be reached at all is told
// by the ranges. It returns when ctx ends.
func (w *Watcher) probe(ctx context.Context) {
	warned := make(map[string]bool) // by endpoint and version
	ticker := time.NewTicker(w.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		w.probeVersions(ctx, warned)
		if want := w.wanted(); len(want) > 0 {
			w.probeCompaction(ctx, want[0])
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *Watcher) probeVersions(ctx context.Context, warned map[string]bool) {
	for endpoint, version := range w.etcd.versions(ctx) {
		id := endpoint + " " + version
		if warned[id] {
			continue
		}
		warned[id] = true
		for _, d := range knownDefects(version) {
			w.cfg.Logger.Warn("this version of etcd has a known defect, upgrade it",
				"endpoint", endpoint, "version", version, "defect", d.what, "issue", d.issue, "fixed_in", d.fixedIn())
		}
	}
}

func (w *Watcher) probeCompaction(ctx context.Context, r keyhook.Range) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.RequestTimeout)
	defer cancel()
	if rev, err := compactedRevision(ctx, w.etcd, r); err == nil {
		w.seen.sawCompacted(rev)
	}
}
