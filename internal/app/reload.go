package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"keyhook"
	"keyhook/internal/compare"
	"keyhook/internal/config"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// rulesState is what runs, and why it is not what the files say.
type rulesState struct {
	set    *rules.Set
	ranges []keyhook.Range
	loaded time.Time
	// changes are what the last reload made of the set before; nil before one.
	changes *compare.Changes
	digest  string // of the files as they were last looked at
	stale   error  // why those files do not run; nil if they do
	config  string // digest of keyhook.yaml as it was last looked at
}

// reloads loads the rules when their files change, and whenever it is told to.
func (r *run) reloads(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	cfg := r.opts.Plan.Config
	files := fileWatch{
		log:    r.log,
		globs:  []string{config.Literal(cfg.Path)},
		list:   func() listing { return sizes(cfg) },
		losses: newLosses(r.opts.Plan.files),
	}
	for _, glob := range cfg.Rules {
		files.globs = append(files.globs, glob.Pattern)
	}
	group.Go(func() error { return files.run(ctx, r.reload) })
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-r.opts.Reload:
				r.reload(nil)
			}
		}
	})
	return group.Wait()
}

// reload makes the files run, all of them or none. It does nothing if they are
// as they were when it last looked; and nothing, and returns false, if they hold
// less than what was seen of them. It is forced if nothing was seen.
func (r *run) reload(seen listing) bool {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	forced := seen == nil
	cfg := r.opts.Plan.Config
	files, main := readRules(cfg), digestOf(cfg.Path)
	if files.lacks(seen) {
		return false
	}
	r.mu.Lock()
	edited := main != r.rules.config
	r.rules.config = main
	same := files.digest() == r.rules.digest
	r.rules.digest = files.digest()
	running, watched, stale := r.rules.set, r.rules.ranges, r.rules.stale != nil
	r.mu.Unlock()
	if edited || forced && main != r.opts.Plan.configDigest {
		r.edited()
	}
	if same && !forced {
		return true
	}
	set, problems := files.compile(cfg, running, nil)
	err := problems.Err()
	unchanged := err == nil && same && !stale && sameSinks(running.Sinks(), set.Sinks())
	var changes *compare.Changes
	var ranges []keyhook.Range
	if err == nil && !unchanged {
		key := compare.NewKey()
		ranges = rangesOf(cfg, set)
		changes = compare.Compare(inventory(cfg, running, watched, key), inventory(cfg, set, ranges, key))
		err = r.install(set, ranges, changes)
	}
	switch {
	case err != nil:
		r.keep(err)
	case unchanged:
		r.log.Info("the rules were read again and are as they were", "rules", len(set.Rules()), "sinks", len(set.Sinks()))
	default:
		r.log.Info("rules reloaded", append([]any{"rules", len(set.Rules()), "sinks", len(set.Sinks()), "ranges", rangeNames(ranges)},
			changeAttrs(changes)...)...)
		LogWarnings(r.log, set.Warnings())
	}
	if hook := r.opts.Hooks.Reloaded; hook != nil {
		hook(err)
	}
	return true
}

// edited says that keyhook.yaml is another than the one that runs, and what is
// wrong with it: the next start would fail.
func (r *run) edited() {
	path := r.opts.Plan.Config.Path
	if _, problems := config.Load(path); len(problems) > 0 {
		r.log.Error("the configuration was edited and cannot be read: the next start would fail", "config", path)
		r.logProblems(problems)
		return
	}
	r.log.Warn("the configuration was edited: it takes effect at the next start", "config", path)
}

// sameSinks reports whether sinks are made of the same, their secrets included,
// which other files hold.
func sameSinks(a, b []rules.SinkSpec) bool {
	return slices.EqualFunc(a, b, func(a, b rules.SinkSpec) bool { return fingerprint(a) == fingerprint(b) })
}

// install puts a set in place of the one that runs: first the sinks that it
// sends to, then the rules, then the ranges that they need.
func (r *run) install(set *rules.Set, ranges []keyhook.Range, changes *compare.Changes) error {
	all, err := r.sinks(set)
	if err != nil {
		return err
	}
	r.consumer.replace(set, func() { r.dispatcher.SetRules(all, dispatcherRules(set)) })
	r.announce(set)
	select {
	case <-r.made: // older ones that nobody has come to
	default:
	}
	r.made <- all

	r.mu.Lock()
	defer r.mu.Unlock()
	r.rules.set, r.rules.ranges, r.rules.loaded, r.rules.stale = set, ranges, time.Now(), nil
	r.rules.changes = changes
	if r.watcher == nil {
		return nil
	}
	r.warnGivenUp(r.dispatcher.Status().Ranges, ranges)
	return r.watcher.SetRanges(ranges)
}

// keep leaves the running rules in place, visibly.
func (r *run) keep(err error) {
	r.mu.Lock()
	r.rules.stale = err
	r.mu.Unlock()
	r.log.Error("the rules were not reloaded; the running ones go on")
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		r.log.Error("rule files", "error", err)
		return
	}
	r.logProblems(problems)
}

// logProblems logs one line each, as many as anybody reads.
func (r *run) logProblems(problems strictyaml.Problems) {
	const shown = 20
	for i, p := range problems {
		if i == shown {
			r.log.Error("further problems are left out; `keyhook check` shows them", "problems", len(problems)-shown)
			break
		}
		r.log.Error("problem", problemAttrs(p)...)
	}
}

// LogWarnings logs what works and is probably not meant, one line each.
func LogWarnings(log *slog.Logger, warnings []strictyaml.Problem) {
	for _, w := range warnings {
		log.Warn("configuration", problemAttrs(w)...)
	}
}

func problemAttrs(p strictyaml.Problem) []any {
	attrs := []any{"at", p.Position().String(), "problem", p.Message}
	if p.Hint != "" {
		attrs = append(attrs, "hint", p.Hint)
	}
	return attrs
}
