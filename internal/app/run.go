package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint/disk"
	"keyhook/dispatcher"
	"keyhook/internal/admin"
	"keyhook/internal/backlog"
	"keyhook/internal/telemetry"
	"keyhook/rules"
	"keyhook/watch"
)

// memoryBudget bounds the deliveries that are held in memory, whatever is owed.
const memoryBudget = 64 << 20

// Options are what a run needs.
type Options struct {
	Plan    *Plan            // required
	Logger  *slog.Logger     // default: discards
	Version string           // of keyhook, as it is told to receivers and operators
	Reload  <-chan os.Signal // reads the rules again, even if the files are as before; may be nil
	Hooks   Hooks
}

// Hooks let the caller look on. All are optional and must be quick.
type Hooks struct {
	// Listening is called once, with the address of the admin server.
	Listening func(address string)
	// Ready is called whenever the run becomes ready.
	Ready func()
	// Sink may change a sink before it is made, at the start and at each reload.
	Sink func(*rules.SinkSpec)
	// Evaluated is called with each change and what came of it, before that is
	// admitted, by several goroutines at once.
	Evaluated func(*keyhook.Event, []*keyhook.Delivery)
	// Dead is called with each dead letter once it is durable. It must not change
	// it, nor keep it.
	Dead func(*keyhook.DeadLetter)
	// Reloaded is called after each attempt to load the rules anew, with its
	// error.
	Reloaded func(error)
}

// run is one run.
type run struct {
	opts       Options
	log        *slog.Logger
	instance   string
	started    time.Time
	metrics    *telemetry.Metrics
	store      *disk.Store
	dispatcher *dispatcher.Dispatcher
	consumer   *consumer
	admin      *admin.Server
	made       chan []dispatcher.Sink // the latest, to be tried out
	openDisk   func(disk.Config) (*disk.Store, error)
	sourceName atomic.Pointer[string] // nil until etcd has been identified
	stopping   atomic.Bool
	beat       atomic.Int64 // when the monitor last looked, in nanoseconds since started

	reloading sync.Mutex // held while rules are loaded

	mu       sync.Mutex
	rules    rulesState
	client   *clientv3.Client
	watcher  *watch.Watcher // nil until etcd has answered
	etcdErr  error          // why there is no watcher
	etcdHint string         // what to do about it
}

// Run watches, evaluates and delivers until ctx ends, which is no error. It
// returns an error if it cannot begin, or cannot go on. Trouble with etcd, with
// receivers, or with a full disk is neither: it stays up, and says so.
func Run(ctx context.Context, opts Options) (err error) {
	if opts.Plan == nil {
		return errors.New("app: no plan")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	r := &run{opts: opts, log: opts.Logger, instance: rand.Text(), started: time.Now(), made: make(chan []dispatcher.Sink, 1), openDisk: disk.Open}
	defer func() { err = errors.Join(err, r.closeStore()) }()
	if err := r.open(ctx); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // told to stop before it began
		}
		return err
	}

	s := newStages(ctx)
	s.run(r.intake)
	s.run(r.tryOut)
	s.run(r.dispatcher.Run) // closes the sinks at its end
	s.run(func(ctx context.Context) error {
		<-ctx.Done()
		return r.closeClient()
	})
	s.run(r.admin.Run)
	s.run(r.monitor)
	err = s.wait()
	if err == nil {
		r.log.Info("stopped")
	}
	return err
}

// open opens what lies on this machine. What it leaves behind when it fails is
// cleaned up by the caller.
func (r *run) open(ctx context.Context) (err error) {
	plan := r.opts.Plan
	if r.metrics, err = telemetry.New(telemetry.Config{
		Version: r.opts.Version, NoRuleSeries: !plan.Config.Metrics.PerRule,
	}); err != nil {
		return err
	}
	r.rules = rulesState{set: plan.Rules, ranges: plan.Ranges, loaded: r.started, digest: plan.digest, config: plan.configDigest}
	r.announce(plan.Rules)

	if r.store, err = r.openStore(ctx); err != nil {
		return err
	}
	all, err := r.sinks(plan.Rules)
	if err != nil {
		return err
	}
	if err := r.serve(ctx, all); err != nil {
		return errors.Join(err, closeSinks(all))
	}
	r.made <- all
	r.log.Info("started", "version", r.opts.Version, "config", plan.Config.Path, "data", plan.Config.Checkpoint.Dir,
		"admin", r.admin.Addr(), "rules", len(plan.Rules.Rules()), "sinks", len(all), "ranges", rangeNames(plan.Ranges))
	if r.opts.Hooks.Listening != nil {
		r.opts.Hooks.Listening(r.admin.Addr())
	}
	return nil
}

// serve opens what works on the store: the dispatcher, and the admin server.
func (r *run) serve(ctx context.Context, all []dispatcher.Sink) (err error) {
	plan := r.opts.Plan
	r.dispatcher, err = dispatcher.Open(ctx, dispatcher.Config{
		Store:          r.watched(),
		Sinks:          all,
		MemoryBudget:   memoryBudget,
		CommitInterval: plan.Config.Checkpoint.Interval,
		Retention:      retention(plan.Config.DeadLetters),
		Story:          r.story,
		Rules:          dispatcherRules(plan.Rules),
		Head:           r.head,
		Logger:         r.log,
		Observer:       r.metrics,
	})
	if err != nil {
		return err
	}
	r.consumer = &consumer{
		dispatcher: r.dispatcher, metrics: r.metrics, log: r.log, source: r.source, evaluated: r.opts.Hooks.Evaluated, set: plan.Rules,
	}

	r.beat.Store(int64(time.Since(r.started)))
	desk, err := r.openBacklog()
	if err != nil {
		return err
	}
	if r.admin, err = r.listen(ctx, r.status, r.alive, desk); err != nil {
		return err
	}
	r.metrics.Follow(r.snapshot)
	if err := r.store.Announce(disk.Instance{ID: r.instance, Address: r.admin.Addr(), PID: os.Getpid()}); err != nil {
		return errors.Join(err, r.admin.Close())
	}
	return nil
}

func (r *run) closeStore() error {
	if r.store == nil {
		return nil
	}
	if err := r.store.Close(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// listen takes the admin address. It holds it until the server has run or is
// closed. There is no desk before there is a store.
func (r *run) listen(ctx context.Context, status func() admin.Status, alive func() error, desk backlog.Desk) (*admin.Server, error) {
	cfg := r.opts.Plan.Config.Admin
	return admin.Listen(ctx, admin.Config{
		Listen:  cfg.Listen,
		Token:   cfg.Token.Reveal(),
		Status:  status,
		Alive:   alive,
		Backlog: desk,
		Audit:   r.audit,
		Compare: r.compare,
		Metrics: r.metrics.Handler(),
		Logger:  r.log,
	})
}

func (r *run) sinks(set *rules.Set) ([]dispatcher.Sink, error) {
	specs := set.Sinks()
	if hook := r.opts.Hooks.Sink; hook != nil {
		for i := range specs {
			hook(&specs[i])
		}
	}
	return dispatcherSinks(specs, r.opts.Version, r.log)
}

// announce lets the series of set's rules and sinks begin.
func (r *run) announce(set *rules.Set) {
	sinks := set.Sinks()
	names := make([]string, len(sinks))
	for i, sink := range sinks {
		names[i] = sink.Name
	}
	r.metrics.SetSinks(names)
	infos := set.Rules()
	known := make([]telemetry.Rule, len(infos))
	for i, info := range infos {
		known[i].Name = info.Name
		for _, send := range info.Sends {
			known[i].Sinks = append(known[i].Sinks, send.Sink)
		}
	}
	r.metrics.SetRules(known)
}

func rangeNames(ranges []keyhook.Range) []string {
	names := make([]string, len(ranges))
	for i, r := range ranges {
		names[i] = r.String()
	}
	return names
}
