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

	"keyhook"
	"keyhook/examples"
	"keyhook/internal/app"
	"keyhook/internal/devserver"
	"keyhook/internal/inbox"
	"keyhook/internal/inbox/natsinbox"
	"keyhook/rules"
)

// Options say what is played.
type Options struct {
	// Config is a configuration to play instead of the quickstart.
	Config string
	// Story is a file to play instead of the story that lies beside Config.
	Story string
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
	story  *story
	etcd   *devserver.Etcd
	nats   *devserver.NATS
	client *clientv3.Client
	leases map[string]clientv3.LeaseID // by key, of the story
	inbox  *inbox.Server
	bus    *natsinbox.Inbox

	mu          sync.Mutex
	buses       map[string]busSink // by name of the sink
	told        map[string]bool    // sinks that are told of dead letters
	deadLetters natsinbox.Way      // how they are told, if by NATS
	refuse      string             // the first attempt at a change of this key and value is refused
	over        bool               // the story is; what changes now is somebody else's
}

// Run plays until ctx ends, or until the end of the story. It returns an error
// if the story does not come out as it is expected to, or if not all that it is
// owed has arrived.
func Run(ctx context.Context, o Options) (err error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &session{
		Options: o, print: newPrinter(o.Out), ledger: newLedger(),
		leases: make(map[string]clientv3.LeaseID), buses: make(map[string]busSink), told: make(map[string]bool),
	}
	dir, err := os.MkdirTemp("", "keyhook-dev-")
	if err != nil {
		return fmt.Errorf("a directory for the session: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := s.prepare(dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.closeServers()) }()
	if err := s.startServers(ctx); err != nil {
		return err
	}
	if s.client, err = clientv3.New(clientv3.Config{Endpoints: []string{s.etcd.Endpoint()}, Context: ctx, Logger: zap.NewNop()}); err != nil {
		return err
	}
	defer func() {
		if closing := s.client.Close(); !errors.Is(closing, context.Canceled) {
			err = errors.Join(err, closing)
		}
	}()
	if s.bus, err = natsinbox.Connect(s.nats.URL(), natsinbox.Config{Way: s.way, Arrived: s.heard}); err != nil {
		return err
	}
	defer s.bus.Close()
	if s.inbox, err = inbox.Listen(ctx, "127.0.0.1:0", inbox.Config{Reply: s.reply, Arrived: s.arrived}); err != nil {
		return err
	}
	s.redirect(dir)
	return s.play(ctx)
}

// quickstart reports whether no configuration was given.
func (s *session) quickstart() bool { return s.Config == "" }

// prepare loads the configuration, or a copy of the quickstart, and the story.
func (s *session) prepare(dir string) (err error) {
	path := s.Config
	if s.quickstart() {
		if err := os.CopyFS(dir, examples.Quickstart); err != nil {
			return fmt.Errorf("copy the quickstart: %w", err)
		}
		path = filepath.Join(dir, "quickstart", "keyhook.yaml")
	}
	if s.plan, err = app.Load(path); err != nil {
		return err
	}
	file := s.Story
	if file == "" {
		if file, err = findStory(path); err != nil {
			return err
		}
	}
	if file != "" {
		s.story, err = readStory(file)
		return err
	}
	data, err := examples.Quickstart.ReadFile("quickstart/" + storyFile)
	if err != nil {
		return fmt.Errorf("the story of the quickstart: %w", err)
	}
	told, err := parseStory(storyFile, data)
	if err != nil {
		return err
	}
	s.story = told.without()
	return nil
}

// startServers starts what keyhook talks to. What it has started is closed by
// closeServers, also if it fails.
func (s *session) startServers(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() (err error) {
		s.etcd, err = devserver.Start(ctx)
		return err
	})
	group.Go(func() (err error) {
		s.nats, err = devserver.StartNATS(ctx)
		return err
	})
	return group.Wait()
}

func (s *session) closeServers() (err error) {
	if s.etcd != nil {
		err = s.etcd.Close()
	}
	if s.nats != nil {
		err = errors.Join(err, s.nats.Close())
	}
	return err
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
				Sink:      func(spec *rules.SinkSpec) { s.toInbox(running, spec) },
				Evaluated: func(e *keyhook.Event, ds []*keyhook.Delivery) { s.evaluated(running, e, ds) },
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
