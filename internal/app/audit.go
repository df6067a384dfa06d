package app

import (
	"context"
	"errors"
	"log/slog"
	"unicode/utf8"

	"keyhook/checkpoint/disk"
	"keyhook/internal/admin"
	"keyhook/internal/config"
	"keyhook/internal/hint"
	"keyhook/watch"
)

// audit implements [admin.Auditor].
func (r *run) audit(ctx context.Context, repair bool, progress func(keys int)) ([]admin.Audit, error) {
	r.mu.Lock()
	w, why, advice := r.watcher, r.etcdErr, r.etcdHint
	r.mu.Unlock()
	switch {
	case w != nil:
	case why != nil:
		return nil, hint.New(why.Error(), advice, nil)
	default:
		return nil, hint.With(errNoEtcd, "try again")
	}
	reports, err := w.Audit(ctx, repair, progress)
	return auditsOf(reports), err
}

func auditsOf(reports []*watch.AuditReport) []admin.Audit {
	all := make([]admin.Audit, 0, len(reports))
	for _, a := range reports {
		one := admin.Audit{
			Range: a.Range.String(), Keys: a.Keys, Differing: a.Differing, Differences: []admin.AuditDifference{},
			Partial: a.Partial, Repaired: a.Repaired,
		}
		if a.Err != nil {
			one.Error = a.Err.Error()
		}
		for _, d := range a.Differences {
			diff := admin.AuditDifference{Known: d.Known, Etcd: d.Held, Revision: d.Revision}
			if utf8.Valid(d.Key) {
				diff.Key = string(d.Key)
			} else {
				diff.KeyBase64 = d.Key
			}
			one.Differences = append(one.Differences, diff)
		}
		all = append(all, one)
	}
	return all
}

// Audit compares what is known of the watched ranges with what etcd holds. The
// process that runs with the configuration does it; where none runs, its data
// directory is compared from here, which cannot repair anything.
func Audit(ctx context.Context, cfg *config.Config, log *slog.Logger, repair bool, progress func(keys int)) (reports []admin.Audit, err error) {
	desk, err := Reach(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if client, ok := desk.Desk.(*admin.Client); ok {
		defer func() { err = errors.Join(err, desk.Close()) }()
		return client.Audit(ctx, repair, progress)
	}
	if err := desk.Close(); err != nil {
		return nil, err
	}
	if repair {
		return nil, hint.New("nothing runs with this configuration that could repair anything",
			"start `keyhook run`: gaps are repaired unless etcd.on_gap is halt; then ask again", nil)
	}
	return auditDirectory(ctx, cfg, log, progress)
}

func auditDirectory(ctx context.Context, cfg *config.Config, log *slog.Logger, progress func(keys int)) (reports []admin.Audit, err error) {
	store, err := disk.Open(disk.Config{Dir: cfg.Checkpoint.Dir, Logger: log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	state, err := store.Load(ctx, 0)
	if err != nil {
		return nil, err
	}
	client, err := watch.Connect(ctx, ClientConfig(&cfg.Etcd))
	if err != nil {
		return nil, err
	}
	found, err := watch.AuditCheckpoint(ctx, client, state, store, progress)
	if closing := client.Close(); closing != nil && !errors.Is(closing, context.Canceled) {
		err = errors.Join(err, closing)
	}
	return auditsOf(found), err
}
