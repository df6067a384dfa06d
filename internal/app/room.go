package app

import (
	"context"
	"errors"
	"os"
	"time"

	"keyhook/checkpoint"
	"keyhook/checkpoint/disk"
	"keyhook/internal/admin"
	"keyhook/internal/hint"
)

// lookForRoom is the time between two looks whether a full disk has room again.
const lookForRoom = time.Second

// openStore takes the data directory. While its disk is full it waits, and
// answers on the admin address that it is not ready, and why.
func (r *run) openStore(ctx context.Context) (*disk.Store, error) {
	store, err := inTurn(ctx, r.takeDisk)
	if !errors.Is(err, checkpoint.ErrFull) {
		return store, err
	}
	server, listening := r.listen(ctx, func() admin.Status {
		return admin.Status{
			Version: r.opts.Version, Instance: r.instance, StartedAt: r.started,
			Reasons: []string{"waiting for room to start: " + explain(err.Error(), hint.Of(err))},
		}
	}, nil, nil)
	if listening != nil {
		return nil, errors.Join(err, listening)
	}
	answering, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Run(answering) }()
	r.log.Error("there is no room to start; waiting until there is", "error", err, "hint", hint.Of(err), "admin", server.Addr())

	store, failure := awaitRoom(ctx, r.takeDisk)
	end()
	if failure = errors.Join(failure, <-ended); failure != nil && store != nil {
		return nil, errors.Join(failure, store.Close())
	}
	if failure == nil {
		r.log.Info("there is room; starting")
	}
	return store, failure
}

// takeDisk opens the data directory and leaves a word in it of who has it.
func (r *run) takeDisk() (*disk.Store, error) {
	store, err := r.openDisk(disk.Config{Dir: r.opts.Plan.Config.Checkpoint.Dir, Logger: r.log})
	if err != nil {
		return nil, err
	}
	if err := store.Announce(disk.Instance{ID: r.instance, PID: os.Getpid()}); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return store, nil
}

// awaitRoom opens again and again, as long as there is no room.
func awaitRoom(ctx context.Context, open func() (*disk.Store, error)) (*disk.Store, error) {
	look := time.NewTicker(lookForRoom)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-look.C:
		}
		if store, err := open(); !errors.Is(err, checkpoint.ErrFull) {
			return store, err
		}
	}
}
