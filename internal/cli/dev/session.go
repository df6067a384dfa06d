package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"keyhook/examples"
	"keyhook/internal/app"
	"keyhook/internal/config"
	"keyhook/internal/devserver"
	"keyhook/internal/inbox"
	"keyhook/internal/strictyaml"
	"keyhook/watch"
)

// Options say what is played.
type Options struct {
	// Config is a configuration to play instead of the quickstart.
	Config string
	// Once ends the session after the story.
	Once bool
	// Timeout bounds how long the story waits, in all, for what it is owed.
	// Default 30 s.
	Timeout time.Duration
	Out     io.Writer    // what happens
	Logger  *slog.Logger // what keyhook has to say
	Reload  <-chan os.Signal
	Version string
}

const defaultTimeout = 30 * time.Second

// session is one session.
type session struct {
	Options
	print  *printer
	ledger *ledger
	plan   *app.Plan
	etcd   *devserver.Etcd
	client *clientv3.Client
	inbox  *inbox.Server
	own    bool // plays the quickstart, of which the outcome is known

	mu     sync.Mutex
	refuse string // the first attempt at a change of this key and value is refused
	over   bool   // the story is; what changes now is somebody else's
}

// Run plays until ctx ends, or until the end of the story. It returns an error
// if what the story is owed has not all arrived.
func Run(ctx context.Context, o Options) (err error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &session{Options: o, print: newPrinter(o.Out), ledger: newLedger(), own: o.Config == ""}
	dir, err := os.MkdirTemp("", "keyhook-dev-")
	if err != nil {
		return fmt.Errorf("a directory for the session: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := s.prepare(dir); err != nil {
		return err
	}
	if s.etcd, err = devserver.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.etcd.Close()) }()
	if s.client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.etcd.Endpoint()}, Context: ctx, Logger: zap.NewNop()}); err != nil {
		return err
	}
	defer func() {
		if closing := s.client.Close(); !errors.Is(closing, context.Canceled) {
			err = errors.Join(err, closing)
		}
	}()
	if s.inbox, err = inbox.Listen(ctx, "127.0.0.1:0", inbox.Config{Reply: s.reply, Arrived: s.arrived}); err != nil {
		return err
	}
	s.redirect(dir)
	return s.play(ctx)
}

// prepare loads the configuration, or a copy of the quickstart.
func (s *session) prepare(dir string) (err error) {
	path := s.Config
	if s.own {
		if err := os.CopyFS(dir, examples.Quickstart); err != nil {
			return fmt.Errorf("copy the quickstart: %w", err)
		}
		path = filepath.Join(dir, "quickstart", "keyhook.yaml")
	}
	s.plan, err = app.Load(path)
	return err
}

// redirect takes the session away from everything outside of this process.
func (s *session) redirect(dir string) {
	c := s.plan.Config
	c.Etcd.Endpoints = []string{s.etcd.Endpoint()}
	c.Etcd.Username, c.Etcd.Password, c.Etcd.TLS = "", strictyaml.Secret{}, config.TLS{}
	c.Etcd.Start = watch.Now
	c.Checkpoint.Dir = filepath.Join(dir, "data")
	c.Admin = config.Admin{Listen: "127.0.0.1:0"}
}

// play runs keyhook while the story is told.
func (s *session) play(ctx context.Context) (err error) {
	// The inbox goes on until nobody sends any more.
	receiving, endInbox := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.inbox.Run(receiving) }()
	defer func() {
		endInbox()
		err = errors.Join(err, <-ended)
	}()

	admin, ready := make(chan string, 1), make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(ctx)
	group.Go(func() error {
		return app.Run(running, app.Options{
			Plan: s.plan, Logger: s.Logger, Version: s.Version, Reload: s.Reload,
			Hooks: app.Hooks{
				Listening: func(address string) { admin <- address },
				Ready: func() {
					select {
					case ready <- struct{}{}:
					default:
					}
				},
				Sink:      s.toInbox,
				Evaluated: s.evaluated,
				Dead:      s.died,
				Reloaded:  s.reloaded,
			},
		})
	})
	group.Go(func() error {
		defer stop()
		return s.tell(ctx, admin, ready)
	})
	return errors.Join(group.Wait(), s.print.failed())
}
