package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"keyhook/checkpoint"
	"keyhook/checkpoint/disk"
	"keyhook/internal/config"
	"keyhook/internal/telemetry"
)

// crowded is a run whose disk is full until it was asked for the data directory
// so often. asked is called each time after the first.
func crowded(t *testing.T, refusals int, asked func(log string)) *run {
	t.Helper()
	metrics, err := telemetry.New(telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r := &run{
		opts: Options{Plan: &Plan{Config: &config.Config{
			Checkpoint: config.Checkpoint{Dir: filepath.Join(t.TempDir(), "data")},
			Admin:      config.Admin{Listen: "127.0.0.1:0"},
		}}},
		log: slog.New(slog.NewTextHandler(&log, nil)), metrics: metrics, started: time.Now(),
	}
	n := 0
	r.openDisk = func(cfg disk.Config) (*disk.Store, error) {
		if n++; n > 1 {
			asked(log.String())
		}
		if n <= refusals {
			return nil, &disk.Error{Reason: checkpoint.ErrFull, Dir: cfg.Dir, Err: errors.New("1 MiB is free")}
		}
		return disk.Open(cfg)
	}
	return r
}

func TestAStartWaitsForRoomAndSaysSo(t *testing.T) {
	looked := 0
	r := crowded(t, 2, func(log string) {
		looked++
		address := regexp.MustCompile(`admin=(\S+)`).FindStringSubmatch(log)
		if address == nil {
			t.Fatalf("no address in\n%s", log)
		}
		for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/healthz": http.StatusOK, "/metrics": http.StatusOK} {
			status, body := get(t, "http://"+address[1]+path)
			if status != want {
				t.Errorf("%s answers %d: %s", path, status, body)
			}
			if path == "/readyz" && !strings.Contains(body, "waiting for room to start: data directory") {
				t.Errorf("/readyz says %s", body)
			}
		}
	})
	store, err := r.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if looked != 2 {
		t.Errorf("it has looked %d times", looked)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

func TestAStartThatWaitsForRoomCanBeStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := crowded(t, 1000, func(string) { cancel() })
	if _, err := r.openStore(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
