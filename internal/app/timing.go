package app

import (
	"context"
	"errors"

	"keyhook/dispatcher"
	"keyhook/rules"
)

// dispatcherRules returns what the dispatcher must know of a set.
func dispatcherRules(set *rules.Set) *dispatcher.Rules {
	renamed := set.Renamed()
	known := &dispatcher.Rules{RenamedRules: renamed.Rules, RenamedSinks: renamed.Sinks}
	for _, r := range set.Rules() {
		for _, s := range r.Sends {
			known.Sends = append(known.Sends, dispatcher.Send{
				Rule: r.Name, Send: s.Name, Sink: s.Sink, Timing: r.Timing, Keys: r.Ranges,
			})
		}
	}
	return known
}

var errNoEtcd = errors.New("etcd has not answered yet")

// head returns etcd's revision, read linearizably.
func (r *run) head(ctx context.Context) (int64, error) {
	r.mu.Lock()
	w := r.watcher
	r.mu.Unlock()
	if w == nil {
		return 0, errNoEtcd
	}
	return w.Head(ctx)
}
