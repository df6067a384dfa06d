package app

import (
	"context"
	"errors"
	"time"

	"keyhook/checkpoint/disk"
)

// turnPatience is how long a data directory that is in use is waited for: a
// command has it for a moment, and a process that stops for a little longer.
const (
	turnPatience = 2 * time.Second
	turnInterval = 50 * time.Millisecond
)

// inTurn opens again and again, as long as the directory is in use and patience
// lasts.
func inTurn[T any](ctx context.Context, open func() (T, error)) (T, error) {
	late := time.NewTimer(turnPatience)
	defer late.Stop()
	again := time.NewTicker(turnInterval)
	defer again.Stop()
	for {
		opened, err := open()
		if !errors.Is(err, disk.ErrInUse) {
			return opened, err
		}
		select {
		case <-again.C:
		case <-late.C:
			return opened, err
		case <-ctx.Done():
			return opened, err
		}
	}
}
