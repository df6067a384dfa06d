package app

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/disk"
	"keyhook/dispatcher"
	"keyhook/internal/admin"
	"keyhook/internal/telemetry"
	"keyhook/watch"
)

// picture is the state of a run at one moment.
type picture struct {
	watching   bool // etcd has answered, so that watch means something
	watch      watch.Status
	etcdErr    error
	etcdHint   string
	dispatcher dispatcher.Status
	rules      rulesState
	stopping   bool
}

func (r *run) look() picture {
	r.mu.Lock()
	p := picture{watching: r.watcher != nil, etcdErr: r.etcdErr, etcdHint: r.etcdHint, rules: r.rules}
	w := r.watcher
	r.mu.Unlock()
	if w != nil {
		p.watch = w.Status()
	}
	p.dispatcher = r.dispatcher.Status()
	p.stopping = r.stopping.Load()
	return p
}

// reasons say why not every later change would be delivered; none: it is ready.
func (p *picture) reasons() []string {
	var why []string
	if p.stopping {
		why = append(why, "stopping")
	}
	switch {
	case p.dispatcher.CommitError != "":
		why = append(why, "commits fail: "+p.dispatcher.CommitError)
	case p.dispatcher.Stalled:
		why = append(why, "commits have fallen behind: sending and intake wait")
	}
	switch {
	case p.watching:
	case p.etcdErr != nil:
		return append(why, explain(p.etcdErr.Error(), p.etcdHint))
	default:
		return append(why, "connecting to etcd")
	}
	for _, r := range p.watch.Ranges {
		switch {
		case r.Ready:
		case r.Err != nil:
			why = append(why, explain("range "+r.Err.Error(), r.Err.Hint))
		default:
			why = append(why, fmt.Sprintf("range %s: %s", r.Range, rangeState(r)))
		}
	}
	if len(why) == 0 && !p.watch.Ready {
		why = append(why, "the watched ranges are changing")
	}
	return why
}

// explain returns what is wrong, and what to do about it.
func explain(what, hint string) string {
	if hint == "" {
		return what
	}
	return what + " (" + hint + ")"
}

func rangeState(r watch.RangeStatus) string {
	switch {
	case r.Halted:
		return "halted"
	case r.Ready:
		return "watching"
	case r.Err != nil:
		return "retrying"
	case r.Seeding:
		return "seeding"
	case r.Repairing:
		return "repairing"
	default:
		return "starting"
	}
}

// ranges returns the watched ranges; while etcd has never answered, what the
// checkpoint knows of them. Positions are the dispatcher's: what was read up to
// there counts as owed in the same picture.
func (r *run) ranges(p *picture) []watch.RangeStatus {
	all := slices.Clone(p.watch.Ranges)
	if !p.watching {
		all = make([]watch.RangeStatus, len(p.rules.ranges))
		for i, rng := range p.rules.ranges {
			all[i].Range = rng
		}
	}
	for i := range all {
		at := slices.IndexFunc(p.dispatcher.Ranges, func(s checkpoint.RangeState) bool { return s.Range.Equal(all[i].Range) })
		if at >= 0 {
			all[i].Position = p.dispatcher.Ranges[at].Position
		}
	}
	return all
}

// status fills in the page for operators.
func (r *run) status() admin.Status {
	p := r.look()
	st := admin.Status{
		Version:   r.opts.Version,
		Instance:  r.instance,
		StartedAt: r.started,
		Reasons:   p.reasons(),
		Source:    p.dispatcher.Identity.Source,
		Epoch:     p.dispatcher.Identity.Epoch,
		Etcd:      admin.Etcd{Revision: p.watch.Revision, CompactedRevision: p.watch.Compacted},
		Rules:     admin.Rules{Count: len(p.rules.set.Rules()), LoadedAt: p.rules.loaded, Stale: p.rules.stale != nil, Changes: p.rules.changes},
		Commit: admin.Commit{
			Sequence: p.dispatcher.Sequence,
			LastAt:   admin.At(p.dispatcher.LastCommit),
			Stalled:  p.dispatcher.Stalled,
			Error:    p.dispatcher.CommitError,
		},
		Memory: admin.Memory{Deliveries: p.dispatcher.MemoryBytes, DeliveriesBudget: memoryBudget},
	}
	st.Ready = len(st.Reasons) == 0
	if id := p.dispatcher.Identity.ClusterID; id != 0 {
		st.ClusterID = strconv.FormatUint(id, 16)
	}
	if p.rules.stale != nil {
		st.Rules.Error = p.rules.stale.Error()
	}
	for _, rng := range r.ranges(&p) {
		row := admin.Range{Range: rng.Range.String(), State: rangeState(rng), Ready: rng.Ready}
		if rng.Position != (keyhook.Position{}) {
			row.Position, row.Admitted = rng.Position.Revision(), rng.Position.Admitted
		}
		if rng.Err != nil {
			row.Error, row.Hint = rng.Err.Err.Error(), rng.Err.Hint
		}
		row.NearCompaction = rng.NearCompaction
		if g := rng.Gap; g != nil {
			row.Gap = &admin.Gap{
				Reason: string(g.Reason), From: g.From, To: g.To, Created: g.Created, Changed: g.Changed, Deleted: g.Deleted, At: g.At,
			}
		}
		st.Ranges = append(st.Ranges, row)
	}
	for _, s := range p.dispatcher.Sinks {
		st.Sinks = append(st.Sinks, admin.Sink{
			Name: s.Name, Configured: s.Configured, Owed: s.Owed, OldestOwedAt: admin.At(s.OldestAdmitted),
			DeadLetters: s.DeadLetters, InFlight: s.InFlight, Waiting: s.Waiting, Held: s.Held, HeldSince: admin.At(s.HeldSince), HeldReason: s.Reason,
			Paused: s.Paused, PausedSince: admin.At(s.PausedSince), Breaker: s.Breaker, BreakerUntil: admin.At(s.BreakerUntil),
			LastError: s.LastError, LastErrorAt: admin.At(s.LastErrorAt), LastDeliveredAt: admin.At(s.LastDeliveredAt),
		})
	}
	return st
}

// snapshot fills in the gauges.
func (r *run) snapshot() telemetry.Snapshot {
	p := r.look()
	s := telemetry.Snapshot{
		Ready:       len(p.reasons()) == 0,
		RulesStale:  p.rules.stale != nil,
		Revision:    p.watch.Revision,
		Compacted:   p.watch.Compacted,
		MemoryBytes: p.dispatcher.MemoryBytes,
	}
	if free, err := disk.Free(r.opts.Plan.Config.Checkpoint.Dir); err == nil {
		s.DiskFree = &free
	}
	for _, rng := range r.ranges(&p) {
		state := telemetry.RangeState{Range: rng.Range.String()}
		if rng.Position != (keyhook.Position{}) {
			state.Position = rng.Position.Revision()
		}
		state.NearCompaction = rng.NearCompaction
		s.Ranges = append(s.Ranges, state)
	}
	for _, k := range p.dispatcher.Sinks {
		s.Sinks = append(s.Sinks, telemetry.SinkState{
			Name: k.Name, Owed: k.Owed, Oldest: k.OldestAdmitted, Waiting: k.Waiting, DeadLetters: k.DeadLetters,
			InFlight: k.InFlight, Held: k.Held, Paused: k.Paused, BreakerOpen: k.Breaker != dispatcher.BreakerClosed,
		})
	}
	return s
}

const (
	// lookFirst is the time between two looks until it is ready for the first
	// time, lookLater from then on.
	lookFirst = 20 * time.Millisecond
	lookLater = 250 * time.Millisecond
	// deadAfter is how long nobody could look at the parts before they are taken
	// to be stuck.
	deadAfter = 30 * time.Second
)

// monitor logs when the run becomes ready, or is no longer.
func (r *run) monitor(ctx context.Context) error {
	look := time.NewTicker(lookFirst)
	defer look.Stop()
	ready := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		p := r.look()
		r.beat.Store(int64(time.Since(r.started)))
		why := p.reasons()
		switch now := len(why) == 0; {
		case now == ready || p.stopping:
		case now:
			look.Reset(lookLater)
			r.log.Info("ready: every later change will be delivered", "source", p.dispatcher.Identity.Source,
				"revision", p.watch.Revision, "owed", owed(&p))
			if hook := r.opts.Hooks.Ready; hook != nil {
				hook()
			}
			ready = true
		default:
			r.log.Warn("no longer ready", "reasons", strings.Join(why, "; "))
			ready = false
		}
	}
}

func owed(p *picture) (n int64) {
	for _, s := range p.dispatcher.Sinks {
		n += s.Owed
	}
	return n
}

// alive returns an error if the parts no longer answer.
func (r *run) alive() error {
	if silent := time.Since(r.started) - time.Duration(r.beat.Load()); silent > deadAfter {
		return fmt.Errorf("nothing has moved for %s", silent.Round(time.Second))
	}
	return nil
}
