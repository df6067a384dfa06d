package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyhook/internal/freeport"
)

// BuildAlertmanager builds the Alertmanager that test/servers/alertmanager pins
// and returns its path. It is kept in bin/servers of the checkout: only the
// first call takes its time, some minutes with nothing in Go's cache.
//
// The version is the last one whose module holds what its web pages are made of.
func BuildAlertmanager(ctx context.Context) (path string, err error) {
	root, err := checkout(ctx)
	if err != nil {
		return "", err
	}
	module := filepath.Join(root, "test", "servers", "alertmanager")
	pinned, err := fingerprint(ctx, module)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "bin", "servers", "alertmanager-"+pinned)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	path = filepath.Join(dir, "alertmanager")
	return path, buildOnce(ctx, path, module, "github.com/prometheus/alertmanager/cmd/alertmanager")
}

// Alertmanager is a running Alertmanager of its own, without a cluster.
type Alertmanager struct {
	URL string
}

// StartAlertmanager starts Alertmanager and waits until it is ready. It tells
// the webhook at receiver at once of every alert that fires or is resolved.
func StartAlertmanager(t testing.TB, path, receiver string) *Alertmanager {
	t.Helper()
	dir := t.TempDir()
	listen := freeport.Address(t)
	config := fmt.Sprintf(`
route: {receiver: test, group_by: ["..."], group_wait: 0s, group_interval: 1s}
receivers: [{name: test, webhook_configs: [{url: %q, send_resolved: true}]}]
`, receiver)
	if err := os.WriteFile(filepath.Join(dir, "alertmanager.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "alertmanager.log")
	showWhenFailed(t, "alertmanager", log)
	proc := start(t, "alertmanager", log, path,
		"--config.file", filepath.Join(dir, "alertmanager.yml"),
		"--storage.path", filepath.Join(dir, "data"),
		"--web.listen-address", listen,
		"--cluster.listen-address", "",
	)
	a := &Alertmanager{URL: "http://" + listen}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	err := Poll(ctx, func() (bool, error) {
		if !proc.running() {
			return true, errors.New("alertmanager has ended")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+"/-/ready", http.NoBody)
		if err != nil {
			return true, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return false, err
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
	if err != nil {
		t.Fatalf("alertmanager does not become ready: %v", err)
	}
	return a
}
