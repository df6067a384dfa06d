//go:build !nodev

package dev_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"keyhook/internal/cli/dev"
	"keyhook/internal/hint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is what a session prints.
type screen struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{}
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the screen shows what pattern says, and returns its groups.
func (s *screen) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	over := time.After(30 * time.Second)
	for {
		s.mu.Lock()
		found, changed := re.FindStringSubmatch(s.text.String()), s.changed
		s.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-changed:
		case <-over:
			t.Fatalf("no %q on the screen:\n%s", pattern, s)
		}
	}
}

// clean makes the test fail if a session leaves something behind.
func clean(t *testing.T) {
	t.Helper()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Cleanup(func() {
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func configuration(t *testing.T, config, rules string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"keyhook.yaml": config, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "keyhook.yaml")
}

func TestTheQuickstart(t *testing.T) {
	clean(t)
	screen := newScreen()
	if err := dev.Run(t.Context(), dev.Options{Once: true, Out: screen, Version: "test"}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	// In this order, and each once.
	rest := screen.String()
	for _, want := range []string{
		"put /service/prod-db/leader = node-a\n",
		"→ 204  patroni-failover ⇒ pager", `"Cluster prod-db is now led by node-a"`,
		"put /service/prod-db/leader = node-a\n    no rule matches\n",
		"put /apps/checkout/health", "no rule matches\n",
		"put /service/prod-db/leader = node-b\n",
		"→ 503  patroni-failover ⇒ pager", "→ 204  patroni-failover ⇒ pager  attempt 2", `"previous_leader":"node-a"`,
		"del /service/prod-db/leader\n", "→ 204  patroni-no-leader ⇒ pager", "it was node-b",
		"put /apps/checkout/health", "→ stored  app-health ⇒ bus", "CloudEvent keyhook.etcd.put about /apps/checkout/health",
		"put /service/prod-db/leader = node-c\n", "→ 204  patroni-failover ⇒ pager", `"previous_leader":"node-b"`,
		"put /apps/checkout/health", "→ stored  app-health ⇒ bus", "number 2 of the stream HEALTH",
		"All 6 deliveries arrived",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("no %q in the rest of\n%s", want, screen)
		}
		rest = after
	}
	for answer, want := range map[string]int{"→ 204": 4, "→ 503": 1, "→ stored": 2} {
		if n := strings.Count(screen.String(), answer); n != want {
			t.Errorf("%d lines say %q, not %d:\n%s", n, answer, want, screen)
		}
	}
}

// Every directory of examples runs as it stands, and its story comes to what it
// says, whatever stands in for the secrets.
func TestEveryExample(t *testing.T) {
	for _, secret := range []string{"SLACK_WEBHOOK_URL", "ALERTMANAGER_URL", "HANDLER_TOKEN"} {
		t.Setenv(secret, "https://example.com/T0/B0")
	}
	configs, err := filepath.Glob("../../../examples/*/keyhook.yaml")
	if err != nil || len(configs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, config := range configs {
		t.Run(filepath.Base(filepath.Dir(config)), func(t *testing.T) {
			clean(t)
			screen := newScreen()
			if err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen}); err != nil {
				t.Fatalf("%v\n%s", err, screen)
			}
			screen.await(t, `All [1-9]\d* deliveries arrived`)
			if _, err := os.Stat(filepath.Join(filepath.Dir(config), "keyhook-data")); !os.IsNotExist(err) {
				t.Errorf("it has made a data directory: %v", err)
			}
		})
	}
}

func TestAConfigurationIsTriedWithoutCallingItsReceivers(t *testing.T) {
	clean(t)
	called := make(chan struct{}, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} }))
	t.Cleanup(receiver.Close)
	config := configuration(t, `
etcd: {endpoints: ["https://etcd.example.com:2379"], username: u, password: p, start: 99}
admin: {listen: "192.0.2.1:1", token: secret}
rules: [rules.yaml]
`, fmt.Sprintf(`
sinks: [{name: "of /mine", webhook: {url: "%s/hook"}}]
rules: [{name: all, keys: "/service/{x...}", send: {sink: "of /mine", body: event.type}}]
`, receiver.URL))
	screen := newScreen()
	if err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	screen.await(t, `All 5 deliveries arrived`)
	if len(called) > 0 {
		t.Errorf("the receiver was called %d times", len(called))
	}
}

func TestWhatDoesNotArriveIsNamed(t *testing.T) {
	clean(t)
	config := configuration(t, "rules: [rules.yaml]\n", `
sinks: [{name: slow, webhook: {url: "http://127.0.0.1:1/"}, rate: 1/h}]
rules: [{name: leaders, keys: "/service/{x...}", send: {sink: slow}}]
`)
	for patience := time.Second; ; patience *= 2 {
		screen := newScreen()
		err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen, Timeout: patience})
		if err == nil || !strings.Contains(err.Error(), "did not arrive within "+patience.String()) {
			t.Fatalf("got %v\n%s", err, screen)
		}
		if strings.Contains(err.Error(), "leaders ⇒ slow, for revision") {
			return
		}
		// The change itself has not been read in time, which some machines need more
		// of.
		if !strings.Contains(err.Error(), " itself") || patience > time.Minute {
			t.Fatalf("got %v\n%s", err, screen)
		}
	}
}

// A story that owes nothing proves nothing.
func TestAConfigurationThatDoesNotCareForTheStory(t *testing.T) {
	for name, tt := range map[string]struct{ rule, shown, want string }{
		"other keys":      {`keys: "/mine/{x}"`, "does not watch", "none of the story's keys is watched"},
		"other condition": {`keys: "/service/{x...}", when: event.value == "?"`, "No rule wants", "no rule matched any change of the story"},
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			config := configuration(t, "rules: [rules.yaml]\n", `
sinks: [{name: s, webhook: {url: "http://127.0.0.1:1/"}}]
rules: [{name: r, `+tt.rule+`, send: {sink: s}}]
`)
			screen := newScreen()
			err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen})
			if err == nil || !strings.Contains(err.Error(), tt.want) || hint.Of(err) == "" {
				t.Errorf("got %v", err)
			}
			screen.await(t, tt.shown)
		})
	}
}

// What dies is shown below the change that it was owed to, and the story does
// not wait for it to arrive.
func TestADeadLetterEndsTheStory(t *testing.T) {
	for name, send := range map[string]string{
		"the body fails":                 `body: event.json.missing`,
		"the sink will not have it":      `headers: {X-Value: '"a\nb"'}`,
		"after others that have arrived": `name: fine}, {sink: s, name: bad, body: event.json.missing`,
	} {
		t.Run(name, func(t *testing.T) {
			clean(t)
			config := configuration(t, "rules: [rules.yaml]\n", `
sinks: [{name: s, webhook: {url: "http://127.0.0.1:1/"}}]
rules: [{name: leaders, keys: "/service/{x...}", send: [{sink: s, `+send+`}]}]
`)
			screen := newScreen()
			err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen, Timeout: time.Hour})
			if err == nil || !strings.Contains(err.Error(), "1 delivery became a dead letter") {
				t.Fatalf("got %v\n%s", err, screen)
			}
			screen.await(t, `put /service/prod-db/leader = node-a\n(?s:.*)✗ dead letter  leaders ⇒ s  (render|rejected)\n        \S`)
			if strings.Contains(screen.String(), "arrived.") {
				t.Errorf("it goes on:\n%s", screen)
			}
		})
	}
}

func TestGoesOnUntilItIsInterrupted(t *testing.T) {
	clean(t)
	screen := newScreen()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, dev.Options{Out: screen}) }()

	screen.await(t, "Ctrl-C ends it")
	endpoint := screen.await(t, `etcdctl --endpoints=(\S+) put /service/prod-db/leader node-d`)[1]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/service/prod-db/leader", "node-d"); err != nil {
		t.Fatal(err)
	}
	screen.await(t, `put /service/prod-db/leader = node-d\n    → 204  patroni-failover(?s:.*)"previous_leader":"node-c"`)
	if _, err := client.Put(t.Context(), "/service/prod-db/config", "a\x1b[2Jb\nc"); err != nil {
		t.Fatal(err)
	}
	screen.await(t, `put /service/prod-db/config = a·\[2Jb·c\n    no rule matches`)
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	rules := screen.await(t, `rules +(\S+)/\*\.yaml`)[1]
	data, err := os.ReadFile(filepath.Join(rules, "health.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rules, "health.yaml"), append(data, "# edited\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	screen.await(t, "rules reloaded")

	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	screen.await(t, `nats --server=nats://127\.0\.0\.1:\d+ sub '>'`)
	screen.await(t, `7 deliveries arrived\. Bye`)
}

func TestAStoryThatIsInterruptedHasFailed(t *testing.T) {
	clean(t)
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if err := dev.Run(ctx, dev.Options{Once: true, Out: newScreen()}); err == nil {
		t.Error("no error")
	}
}
