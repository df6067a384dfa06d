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
	near := make(map[string]bool)   // ranges that the compaction is near to
	ticker := time.NewTicker(w.cfg.ProbeInterval)
	defer ticker.Stop()
	for {
		w.probeVersions(ctx, warned)
		if want := w.wanted(); len(want) > 0 {
			w.probeCompaction(ctx, want[0])
			near = w.warnOfCompaction(near)
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
	if rev, err := w.compactedRevision(ctx, r); err == nil {
		w.seen.sawCompacted(rev)
	}
}

// warnOfCompaction tells of each range that the compaction has come near to since
// it was last looked, and returns those that it is near to.
func (w *Watcher) warnOfCompaction(before map[string]bool) map[string]bool {
	now := make(map[string]bool)
	st := w.Status()
	for _, r := range st.Ranges {
		if !r.NearCompaction {
			continue
		}
		name := r.Range.String()
		if now[name] = true; !before[name] {
			w.cfg.Logger.Warn("etcd's next compaction may overtake a range, which is far behind: changes would be lost",
				"range", name, "position", r.Position.String(), "compacted", st.Compacted, "revision", st.Revision,
				"hint", "keep more history in etcd (--auto-compaction-retention), or look for what holds the range up")
		}
	}
	return now
}
