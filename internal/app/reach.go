package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"keyhook/checkpoint/disk"
	"keyhook/dispatcher"
	"keyhook/internal/admin"
	"keyhook/internal/backlog"
	"keyhook/internal/config"
	"keyhook/internal/hint"
)

// Desk is a way to the backlog of a configuration. It is closed after use.
type Desk struct {
	backlog.Desk
	// Running: a process runs, and is asked. Otherwise the data directory is open
	// here, and no process can start meanwhile.
	Running bool
	close   func() error
}

// Close ends what Reach has begun.
func (d *Desk) Close() error { return d.close() }

// reachPatience is how long a process may take to say who it is.
const reachPatience = 10 * time.Second

// Reach finds the process that holds the data directory, or opens the directory
// where none does. A process is asked only if it says that it is the one that
// announced itself there. Commands take turns: a directory that is in use is
// waited for a little.
func Reach(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Desk, error) {
	dir := cfg.Checkpoint.Dir
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New("there is no data directory "+dir, "nothing has run with this configuration; another one is named with -c FILE", err)
	}
	return inTurn(ctx, func() (*Desk, error) { return reach(ctx, cfg, log) })
}

func reach(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Desk, error) {
	running, unreachable := reachProcess(ctx, cfg)
	if unreachable == nil {
		return running, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	opened, err := openDirectory(ctx, cfg, log)
	if errors.Is(err, disk.ErrInUse) {
		return nil, unreached(cfg.Checkpoint.Dir, unreachable, err)
	}
	return opened, err
}

// errNoProcess means that no process has said where it listens.
var errNoProcess = errors.New("it has not said where it listens")

// unreached says that a process holds the directory and cannot be asked. It is
// ErrInUse unless the process has answered: then waiting changes nothing.
func unreached(dir string, why, inUse error) error {
	text := fmt.Sprintf("the data directory %s is in use, and the process cannot be asked: %s", dir, why)
	var found *disk.Error
	if errors.As(inUse, &found) && found.Err != nil {
		text = fmt.Sprintf("the data directory %s is in use by %s, which cannot be asked: %s", dir, found.Err, why)
	}
	switch advice := hint.Of(why); {
	case errors.Is(why, errNoProcess):
		return hint.New(text, "it is starting, or another command is at work: try again", errors.Join(why, inUse))
	case advice != "":
		return hint.New(text, advice, why)
	default:
		return hint.New(text, "look at its log; when it has stopped, the directory is opened without it", errors.Join(why, inUse))
	}
}

// reachProcess returns the way through the process that has announced itself.
func reachProcess(ctx context.Context, cfg *config.Config) (*Desk, error) {
	in, err := disk.ReadInstance(cfg.Checkpoint.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNoProcess
	case err != nil:
		return nil, err
	case in.Address == "":
		return nil, errNoProcess
	}
	client := admin.NewClient(in.Address, cfg.Admin.Token.Reveal())
	patient, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	switch id, err := client.Instance(patient); {
	case err != nil:
		client.Close()
		return nil, err
	case id != in.ID:
		client.Close()
		return nil, fmt.Errorf("what answers at %s is another process", in.Address)
	}
	return &Desk{Desk: client, Running: true, close: func() error {
		client.Close()
		return nil
	}}, nil
}

// openDirectory opens the directory in this process, with a dispatcher that has
// no sinks: it sends nothing and forgets nothing.
func openDirectory(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Desk, error) {
	dir := cfg.Checkpoint.Dir
	if err := mayOpen(dir); err != nil {
		return nil, err
	}
	store, err := disk.Open(disk.Config{Dir: dir, Logger: log})
	if err != nil {
		return nil, err
	}
	d, err := dispatcher.Open(ctx, dispatcher.Config{Store: store, Logger: log})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	desk, err := backlog.New(backlog.Config{
		Store: store, Dispatcher: d,
		Renderer: func() (backlog.Renderer, error) {
			plan, err := Load(cfg.Path)
			if err != nil {
				return nil, err
			}
			return renderer(plan.Rules, d.Checkpoint().Source), nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	// What has begun is finished, whatever ctx says: Close ends it.
	working, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(working) }()
	return &Desk{Desk: desk, close: func() error {
		end()
		return errors.Join(<-ended, store.Close())
	}}, nil
}
