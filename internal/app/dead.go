package app

import (
	"context"

	"keyhook"
	"keyhook/checkpoint"
)

// deadWatch is a store that tells of each dead letter once it is durable.
type deadWatch struct {
	checkpoint.Store
	dead func(*keyhook.DeadLetter)
}

// Commit implements [checkpoint.Store].
func (w *deadWatch) Commit(ctx context.Context, c *checkpoint.Commit) error {
	err := w.Store.Commit(ctx, c)
	if err == nil {
		for i := range c.Dead {
			w.dead(&c.Dead[i].DeadLetter)
		}
	}
	return err
}

// watched returns the store for the dispatcher: r.store, looked at by the hook.
func (r *run) watched() checkpoint.Store {
	if r.opts.Hooks.Dead == nil {
		return r.store
	}
	return &deadWatch{Store: r.store, dead: r.opts.Hooks.Dead}
}
