package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook/internal/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run serves for the length of the test.
func run(t *testing.T, cfg admin.Config) (base string) {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	if cfg.Status == nil {
		cfg.Status = func() admin.Status { return admin.Status{} }
	}
	s, err := admin.Listen(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + s.Addr()
}

// get returns status, body and header of a page.
func get(t *testing.T, url, authorization string) (int, string, http.Header) {
	t.Helper()
	return do(t, http.MethodGet, url, authorization)
}

func do(t *testing.T, method, url, authorization string) (int, string, http.Header) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestHealth(t *testing.T) {
	var wedged error
	base := run(t, admin.Config{Alive: func() error { return wedged }})
	if status, body, _ := get(t, base+"/healthz", ""); status != 200 || body != "ok\n" {
		t.Errorf("%d %q", status, body)
	}
	wedged = errors.New("the dispatcher has not moved for 1m0s")
	if status, body, _ := get(t, base+"/healthz", ""); status != 503 || body != "the dispatcher has not moved for 1m0s\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestReadiness(t *testing.T) {
	var st admin.Status
	base := run(t, admin.Config{Status: func() admin.Status { return st }})
	for _, tt := range []struct {
		st     admin.Status
		status int
		body   string
	}{
		{admin.Status{}, 503, "not ready yet\n"},
		{admin.Status{Reasons: []string{"range /a/: etcd cannot be reached", "commits fail:\nno room\r\n left"}}, 503, "range /a/: etcd cannot be reached\ncommits fail: no room  left\n"},
		{admin.Status{Ready: true, Reasons: []string{"leftover"}}, 200, "ready\n"},
	} {
		st = tt.st
		status, body, header := get(t, base+"/readyz", "")
		if status != tt.status || body != tt.body || !strings.HasPrefix(header.Get("Content-Type"), "text/plain") || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %q %v, want %d %q", status, body, header, tt.status, tt.body)
		}
	}
}

func TestStatusOfNothing(t *testing.T) {
	base := run(t, admin.Config{})
	status, body, header := get(t, base+"/api/v1/status", "")
	if status != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", status, header)
	}
	var page map[string]any
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"reasons", "ranges", "sinks"} {
		if got, ok := page[list].([]any); !ok || len(got) != 0 {
			t.Errorf("%s is %v, not an empty list", list, page[list])
		}
	}
}

func TestStatus(t *testing.T) {
	now := time.Now()
	sinks := []admin.Sink{
		{Name: "pager", Configured: true, Owed: 7, OldestOwedAt: admin.At(now.Add(-time.Hour)), DeadLetters: 2, InFlight: 3, Held: true, HeldReason: "HTTP 410 Gone"},
		{Name: "bus", OldestOwedAt: admin.At(time.Time{})},
	}
	base := run(t, admin.Config{Status: func() admin.Status {
		return admin.Status{
			Version: "v1.2.3", StartedAt: now.Add(-time.Minute), Source: "/etcd/prod", ClusterID: "cdf818194e3a8c32", Epoch: 1,
			Reasons: []string{"range /<b>&/ is halted"},
			Etcd:    admin.Etcd{Revision: 120, CompactedRevision: 40},
			Ranges: []admin.Range{
				{Range: "/a/", Position: 118, Admitted: 2, State: "watching", Ready: true},
				{Range: "/<b>&/", Position: 30, State: "halted", Error: "compacted", Hint: "see on_gap"},
			},
			Rules: admin.Rules{Count: 5, LoadedAt: time.Unix(1700000000, 0).UTC(), Stale: true, Error: "rules/a.yaml:1:1: oops"},
			Sinks: sinks, Commit: admin.Commit{Sequence: 9, Stalled: true, Error: "no room"},
			Memory: admin.Memory{Deliveries: 10, DeliveriesBudget: 100},
		}
	}})
	_, body, _ := get(t, base+"/api/v1/status", "")
	var got admin.Status
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if got.UptimeSeconds < 60 || got.Sinks[0].OldestOwedAge < 3600 || got.Sinks[1].OldestOwedAge != 0 || got.Memory.Heap == 0 {
		t.Errorf("derived: %+v", got)
	}
	if sinks[0].OldestOwedAge != 0 {
		t.Error("the caller's list was changed")
	}
	// The rest is told as it was given; the names are other people's to rely on.
	golden(t, "status.json", mask(t, body, "uptime_seconds", "started_at", "oldest_owed_seconds", "oldest_owed_at", "heap"))
}

// mask returns page with the values of fields that differ each time replaced.
func mask(t *testing.T, page string, fields ...string) string {
	t.Helper()
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), `"`), `"`)
		for _, field := range fields {
			if name == field && !strings.Contains(line, ": 0") {
				before, _, _ := strings.Cut(line, ":")
				lines[i] = before + `: "…",`
			}
		}
	}
	return strings.Join(lines, "\n")
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page is\n%s, want\n%s", got, want)
	}
}

func TestTheToken(t *testing.T) {
	base := run(t, admin.Config{
		Token:   "s3cret-token",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "keyhook_up 1\n") }),
	})
	for _, tt := range []struct {
		path, authorization string
		status              int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 503},
		{"/metrics", "", 401},
		{"/metrics", "Bearer s3cret-token", 200},
		{"/metrics", "bearer s3cret-token", 200},
		{"/metrics", "Bearer s3cret-toke", 401},
		{"/metrics", "Bearer s3cret-token2", 401},
		{"/metrics", "Bearer", 401},
		{"/metrics", "Basic s3cret-token", 401},
		{"/metrics", "s3cret-token", 401},
		{"/metrics?token=s3cret-token", "", 401},
		{"/api/v1/status", "", 401},
		{"/api/v1/status", "Bearer s3cret-token", 200},
	} {
		status, body, header := get(t, base+tt.path, tt.authorization)
		if status != tt.status {
			t.Errorf("%s with %q: %d", tt.path, tt.authorization, status)
		}
		if status == 401 && !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: %v does not say what it wants", tt.path, header)
		}
		if strings.Contains(body, "s3cret") {
			t.Errorf("%s tells the token: %s", tt.path, body)
		}
	}
}

func TestPagesThatAreNot(t *testing.T) {
	base := run(t, admin.Config{})
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/healthz", 405}, {http.MethodHead, "/healthz", 200}, {http.MethodDelete, "/api/v1/status", 405},
		{http.MethodGet, "/", 404}, {http.MethodGet, "/metrics", 404}, {http.MethodGet, "/debug/pprof/", 404}, {http.MethodGet, "/api/v1/", 404},
	} {
		if status, _, _ := do(t, tt.method, base+tt.path, ""); status != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, status, tt.status)
		}
	}
}

func TestAddressesThatCannotBeHad(t *testing.T) {
	taken := strings.TrimPrefix(run(t, admin.Config{}), "http://")
	for address, tt := range map[string]struct {
		is         error
		says, hint string
	}{
		taken:                      {syscall.EADDRINUSE, "admin.listen " + taken + ": bind: address already in use", "another keyhook"},
		"192.0.2.1:8585":           {syscall.EADDRNOTAVAIL, "cannot assign requested address", "no such address"},
		"8585":                     {nil, "missing port", "host:port"},
		"127.0.0.1:http-but-wrong": {nil, "admin.listen", "host:port"},
	} {
		s, err := admin.Listen(t.Context(), admin.Config{Listen: address, Status: func() admin.Status { return admin.Status{} }})
		var e *admin.ListenError
		if s != nil || !errors.As(err, &e) || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hint) {
			t.Errorf("%s: %v, hint %q", address, err, e.Hint())
		}
	}
	if _, err := admin.Listen(t.Context(), admin.Config{}); err == nil {
		t.Error("a server that knows no status")
	}
}

// A stop lets an open request finish.
func TestAStopLetsRequestsFinish(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	s, err := admin.Listen(t.Context(), admin.Config{Listen: "127.0.0.1:0", Status: func() admin.Status {
		close(asked)
		<-answer
		return admin.Status{Ready: true}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	status := make(chan int, 1)
	go func() {
		code, _, _ := get(t, "http://"+s.Addr()+"/readyz", "")
		status <- code
	}()
	<-asked
	stop()
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v with a request open", err)
	default:
	}
	close(answer)
	if code := <-status; code != 200 {
		t.Errorf("it was answered %d", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
