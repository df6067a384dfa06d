package examples_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"keyhook"
	"keyhook/internal/app"
	"keyhook/internal/etcdtest"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// site is a run of an example between a real etcd and the receivers of a test.
type site struct {
	t      *testing.T
	client *clientv3.Client

	mu         sync.Mutex
	deliveries int
	dead       []string
	logs       strings.Builder
}

// start runs an example until the test ends, with its sinks as redirect has
// them, and waits until it is ready.
func start(t *testing.T, example string, redirect func(*rules.SinkSpec)) *site {
	t.Helper()
	plan, err := app.Load(filepath.Join(example, "keyhook.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	etcd := etcdtest.Start(t)
	c := plan.Config
	c.Etcd.Endpoints, c.Etcd.Start = etcd.Endpoints(), watch.Now
	c.Checkpoint.Dir = t.TempDir()
	c.Admin.Listen, c.Admin.Token = "127.0.0.1:0", strictyaml.Secret{}

	s := &site{t: t, client: etcd.Client()}
	ready, ended := make(chan struct{}, 1), make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		ended <- app.Run(ctx, app.Options{
			Plan: plan, Version: "test", Logger: slog.New(slog.NewTextHandler(s, nil)),
			Hooks: app.Hooks{
				Sink: redirect,
				Ready: func() {
					select {
					case ready <- struct{}{}:
					default:
					}
				},
				Evaluated: s.evaluated, Dead: s.died,
			},
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("keyhook ended with %v", err)
		}
		if t.Failed() {
			t.Logf("what keyhook logged:\n%s", s.logs.String())
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("keyhook did not start: %v", err)
	case <-time.After(patience):
		t.Fatal("keyhook does not become ready")
	}
	return s
}

// Write takes keyhook's log.
func (s *site) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.Write(line)
}

func (s *site) evaluated(_ *keyhook.Event, ds []*keyhook.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries += len(ds)
}

func (s *site) died(l *keyhook.DeadLetter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = append(s.dead, fmt.Sprintf("%s to %s: %s", l.Delivery.Rule, l.Delivery.Sink, l.Error))
}

func (s *site) put(key, value string) {
	s.t.Helper()
	if _, err := s.client.Put(s.t.Context(), key, value); err != nil {
		s.t.Fatal(err)
	}
}

// settled checks that there were as many deliveries as there should be, and no
// dead letter.
func (s *site) settled(deliveries int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deliveries != deliveries || len(s.dead) > 0 {
		s.t.Errorf("%d deliveries, not %d; dead letters: %q", s.deliveries, deliveries, s.dead)
	}
}

func (s *site) letters() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dead)
}

// eventually waits until done says so.
func (s *site) eventually(what string, done func() bool) {
	s.t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for !done() {
		select {
		case <-look.C:
		case <-over:
			s.t.Fatalf("not within %s: %s; dead letters: %q", patience, what, s.letters())
		}
	}
}
