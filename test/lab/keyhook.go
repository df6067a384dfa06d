package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Keyhook is a configuration with its data directory, and the process that runs
// it, if one does.
type Keyhook struct {
	Dir    string // holds keyhook.yaml, rules.yaml and data
	Config string

	log  string
	t    testing.TB
	path string
	proc *process
	http *http.Client

	follows   bool
	following *following
}

// Settings are what a test wants of a configuration.
type Settings struct {
	Etcd  string // the endpoint
	More  string // lines of keyhook.yaml below etcd:, indented by two spaces
	Rules string // rules.yaml
}

// NewKeyhook writes a configuration. Nothing is started.
func NewKeyhook(t testing.TB, path string, s Settings) *Keyhook {
	t.Helper()
	dir := t.TempDir()
	k := &Keyhook{
		Dir: dir, Config: filepath.Join(dir, "keyhook.yaml"), log: filepath.Join(dir, "keyhook.log"), t: t, path: path,
		http: &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second},
	}
	t.Cleanup(k.http.CloseIdleConnections)
	showWhenFailed(t, "keyhook", k.log)
	k.WriteConfig(fmt.Sprintf(`etcd:
  endpoints: [%s]
%s
source: /etcd/test
checkpoint:
  disk: {dir: data}
rules: [rules.yaml]
admin: {listen: "127.0.0.1:0"}
log: {level: info, format: json}
`, s.Etcd, strings.TrimRight(s.More, "\n")))
	k.WriteRules(s.Rules)
	return k
}

// Twin returns the same configuration for a second process.
func (k *Keyhook) Twin() *Keyhook {
	twin := *k
	twin.log, twin.proc, twin.follows, twin.following = filepath.Join(k.Dir, "twin.log"), nil, false, nil
	return &twin
}

// WriteConfig replaces keyhook.yaml.
func (k *Keyhook) WriteConfig(text string) { k.write(k.Config, text) }

// WriteRules replaces rules.yaml in one step.
func (k *Keyhook) WriteRules(text string) {
	k.t.Helper()
	path := filepath.Join(k.Dir, "rules.yaml")
	k.write(path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		k.t.Fatal(err)
	}
}

func (k *Keyhook) write(path, text string) {
	k.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// Start starts keyhook; it does not wait for anything.
func (k *Keyhook) Start() {
	k.t.Helper()
	if k.proc.running() {
		k.t.Fatal("keyhook runs already")
	}
	if k.following != nil {
		k.following.end()
	}
	k.proc = start(k.t, "keyhook", k.log, k.path, "run", "-c", k.Config)
	if k.follows {
		k.follow()
	}
}

// Kill ends keyhook by SIGKILL and waits until it is gone.
func (k *Keyhook) Kill() {
	k.t.Helper()
	if !k.proc.running() {
		k.t.Fatal("keyhook has ended by itself")
	}
	if err := k.proc.kill(); err != nil {
		k.t.Fatal(err)
	}
}

// Stop asks keyhook to end by SIGTERM and returns its exit code.
func (k *Keyhook) Stop() int {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	defer cancel()
	code, err := k.proc.stop(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	return code
}

// Wait waits until keyhook ends by itself and returns its exit code.
func (k *Keyhook) Wait(ctx context.Context) int {
	k.t.Helper()
	code, err := k.proc.wait(ctx)
	if err != nil {
		k.t.Fatal(err)
	}
	return code
}

// Hangup sends SIGHUP.
func (k *Keyhook) Hangup() {
	k.t.Helper()
	if err := k.proc.signal(syscall.SIGHUP); err != nil {
		k.t.Fatal(err)
	}
}

// Running reports whether keyhook has not ended.
func (k *Keyhook) Running() bool { return k.proc.running() }

// PID returns the id of the process that was started last.
func (k *Keyhook) PID() int { return k.proc.cmd.Process.Pid }

// AwaitReady waits until keyhook says that it is ready.
func (k *Keyhook) AwaitReady() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 2*time.Minute)
	defer cancel()
	err := Poll(ctx, func() (bool, error) {
		status, body, err := k.Get(ctx, "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d: %s", status, body)
		}
		return err == nil || errors.Is(err, errEnded), err
	})
	if err != nil {
		k.t.Fatalf("keyhook does not become ready: %v", err)
	}
}

var errEnded = errors.New("keyhook has ended")

// Get asks the admin address of the running process for a path.
func (k *Keyhook) Get(ctx context.Context, path string) (status int, body string, err error) {
	if !k.proc.running() {
		return 0, "", errEnded
	}
	addr, err := k.admin()
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), errors.Join(err, resp.Body.Close())
}

// admin returns the address that the running process has written into its data
// directory.
func (k *Keyhook) admin() (string, error) {
	data, err := os.ReadFile(filepath.Join(k.Dir, "data", "instance.json"))
	if err != nil {
		return "", err
	}
	var instance struct {
		PID     int    `json:"pid"`
		Address string `json:"address"`
	}
	if err := json.Unmarshal(data, &instance); err != nil {
		return "", err
	}
	if instance.PID != k.PID() {
		return "", errors.New("keyhook has not said yet where it listens")
	}
	return instance.Address, nil
}

// Metric returns the sum of a metric over the series whose labels contain all
// of the given pairs, such as `sink="hook"`.
func (k *Keyhook) Metric(name string, pairs ...string) float64 {
	k.t.Helper()
	status, body, err := k.Get(k.t.Context(), "/metrics")
	if err != nil || status != http.StatusOK {
		k.t.Fatalf("metrics: %d, %v", status, err)
	}
	sum, found := metric(body, name, pairs)
	if !found {
		k.t.Fatalf("no metric %s %v", name, pairs)
	}
	return sum
}

func metric(text, name string, pairs []string) (sum float64, found bool) {
series:
	for line := range strings.Lines(text) {
		series, value, ok := cutLast(strings.TrimSpace(line), " ")
		bare, labels, _ := strings.Cut(series, "{")
		if !ok || bare != name {
			continue
		}
		for _, pair := range pairs {
			if !strings.Contains(labels, pair) {
				continue series
			}
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Memory returns the resident memory of the process, now and at its highest, in
// bytes.
func (k *Keyhook) Memory() (now, peak int64) {
	k.t.Helper()
	now, peak, err := k.proc.memory()
	if err != nil {
		k.t.Fatal(err)
	}
	return now, peak
}

// Cost returns how much processor time the last process took, and how many bytes
// it had written to files, as the kernel counts. It has ended.
func (k *Keyhook) Cost() (cpu time.Duration, written int64) {
	k.t.Helper()
	if k.proc.running() {
		k.t.Fatal("keyhook is still running")
	}
	return k.proc.cost()
}

// Log returns everything that keyhook has said so far, over all starts.
func (k *Keyhook) Log() string {
	k.t.Helper()
	log, err := os.ReadFile(k.log)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(log)
}
