package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook/checkpoint/disk"
	"keyhook/internal/admin"
	"keyhook/internal/app"
	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a directory with a configuration, the etcd that it names, and an
// inbox for its sinks.
type site struct {
	t    *testing.T
	dir  string
	etcd *etcdtest.Server
	box  *inbox.Server
	logs *logs
}

func newSite(t *testing.T, opts ...etcdtest.Option) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), etcd: etcdtest.Start(t, opts...), logs: &logs{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what keyhook logged:\n%s", s.logs)
		}
	})
	s.box = inboxtest.Start(t, inbox.Config{})
	s.configure("")
	return s
}

// configure writes keyhook.yaml, with more of the section etcd.
func (s *site) configure(etcd string) {
	s.t.Helper()
	s.write("keyhook.yaml", fmt.Sprintf(`
etcd:
  endpoints: [%q]
%s
checkpoint: {interval: 10ms}
admin: {listen: "127.0.0.1:0"}
`, s.etcd.Endpoints()[0], etcd))
}

// write puts a file into the site in one step, as deployments do.
func (s *site) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

// rule returns a rule file: what is under prefix is sent to a sink of the name,
// with a body that begins with word.
func (s *site) rule(name, prefix, word string) string {
	return fmt.Sprintf(`
sinks:
  - name: %s-sink
    webhook: {url: %s/%s}
    retry: {initial: 50ms, max: 100ms, jitter: 0}
rules:
  - name: %s
    keys: %s{rest...}
    send: {sink: %s-sink, body: '"%s " + event.type + " " + params.rest + "=" + event.value'}
`, name, s.box.URL(), name, name, prefix, name, word)
}

func (s *site) put(key, value string) {
	s.t.Helper()
	if _, err := s.etcd.Client().Put(s.t.Context(), key, value); err != nil {
		s.t.Fatal(err)
	}
}

// bodies returns what the inbox has accepted, in order.
func (s *site) bodies() []string {
	var all []string
	for _, r := range s.box.Requests() {
		if r.Acknowledged() {
			all = append(all, string(r.Body))
		}
	}
	return all
}

// expect waits until the inbox has accepted the bodies, and nothing else.
func (s *site) expect(want ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.box.Await(ctx, func(c inbox.Counts) bool { return c.Acknowledged >= len(want) }); err != nil {
		s.t.Fatalf("%v\nso far %q", err, s.bodies())
	}
	if got := s.bodies(); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

const patience = 30 * time.Second

// process is a run of keyhook at a site.
type process struct {
	t        *testing.T
	site     *site
	admin    string
	ready    chan struct{}
	reloaded chan error
	hup      chan os.Signal
	stopped  chan error
	cancel   context.CancelFunc
	once     sync.Once
}

// start runs keyhook until the test ends, or stop is called.
func (s *site) start() *process {
	s.t.Helper()
	plan, err := app.Load(filepath.Join(s.dir, "keyhook.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	p := &process{
		t: s.t, site: s,
		ready: make(chan struct{}, 100), reloaded: make(chan error, 100),
		hup: make(chan os.Signal), stopped: make(chan error, 1),
	}
	listening := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		p.stopped <- app.Run(ctx, app.Options{
			Plan: plan, Version: "test", Reload: p.hup,
			Logger: slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
			Hooks: app.Hooks{
				Listening: func(address string) { listening <- address },
				Ready:     func() { p.ready <- struct{}{} },
				Reloaded:  func(err error) { p.reloaded <- err },
			},
		})
	}()
	s.t.Cleanup(p.stop)
	select {
	case p.admin = <-listening:
	case err := <-p.stopped:
		p.stopped <- err
		s.t.Fatalf("it did not start: %v", err)
	}
	return p
}

// up starts keyhook and waits until it is ready.
func (s *site) up() *process {
	s.t.Helper()
	p := s.start()
	p.awaitReady()
	return p
}

func (p *process) awaitReady() {
	p.t.Helper()
	select {
	case <-p.ready:
	case err := <-p.stopped:
		p.stopped <- err
		p.t.Fatalf("it stopped: %v", err)
	case <-time.After(patience):
		p.t.Fatalf("it does not become ready: %v", p.status().Reasons)
	}
}

// awaitReload waits for an attempt to load the rules, and returns its error.
func (p *process) awaitReload() error {
	p.t.Helper()
	select {
	case err := <-p.reloaded:
		return err
	case <-time.After(patience):
		p.t.Fatal("the rules are not reloaded")
		return nil
	}
}

// stop ends the run cleanly.
func (p *process) stop() {
	p.t.Helper()
	p.once.Do(func() {
		p.cancel()
		if err := <-p.stopped; err != nil {
			p.t.Errorf("it stopped with %v", err)
		}
	})
}

// get returns a page of the admin server.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (p *process) status() admin.Status {
	p.t.Helper()
	var st admin.Status
	_, page := p.get("/api/v1/status")
	if err := json.Unmarshal([]byte(page), &st); err != nil {
		p.t.Fatalf("%v: %s", err, page)
	}
	return st
}

// metric returns the value of a series as it is printed, "" if there is none.
func (p *process) metric(series string) string {
	p.t.Helper()
	_, page := p.get("/metrics")
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// eventually waits until done says so.
func (p *process) eventually(what string, done func() bool) {
	p.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for !done() {
		select {
		case <-look.C:
		case <-over:
			p.t.Fatalf("not within %s: %s; reasons: %q", patience, what, p.status().Reasons)
		}
	}
}

// announced returns what the process that holds the data directory says of
// itself.
func (s *site) announced() (disk.Instance, error) {
	return disk.ReadInstance(filepath.Join(s.dir, "keyhook-data"))
}

// logs collects what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
