package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"keyhook/internal/freeport"
)

// BuildNATS builds the nats-server that test/servers pins into dir and returns
// its path.
func BuildNATS(ctx context.Context, dir string) (path string, err error) {
	return build(ctx, filepath.Join(dir, "nats-server"), filepath.Join("test", "servers"), "./nats", "build")
}

// NATS is a nats-server with JetStream, at an address that stays the same over
// restarts.
type NATS struct {
	URL string

	monitor string

	t         testing.TB
	path, dir string
	proc      *process
}

// StartNATS starts nats-server with an empty store and waits until it answers.
func StartNATS(t testing.TB, path string) *NATS {
	t.Helper()
	dir := t.TempDir()
	listen, monitor := freeport.Address(t), freeport.Address(t)
	config := fmt.Sprintf("listen: %q\nhttp: %q\njetstream: {store_dir: %q}\n", listen, monitor, filepath.Join(dir, "store"))
	if err := os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &NATS{URL: "nats://" + listen, monitor: "http://" + monitor, t: t, path: path, dir: dir}
	showWhenFailed(t, "nats-server", s.log())
	s.Start()
	return s
}

func (s *NATS) log() string { return filepath.Join(s.dir, "nats.log") }

// Start starts nats-server again after it was killed, and waits until it
// answers for JetStream.
func (s *NATS) Start() {
	s.t.Helper()
	s.proc = start(s.t, "nats-server", s.log(), s.path, "-c", filepath.Join(s.dir, "nats.conf"))
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	err := Poll(ctx, func() (bool, error) {
		if !s.proc.running() {
			return true, errors.New("nats-server has ended")
		}
		conn, err := nats.Connect(s.URL)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return false, err
		}
		_, err = js.AccountInfo(ctx)
		return err == nil, err
	})
	if err != nil {
		s.t.Fatalf("nats-server does not answer: %v", err)
	}
}

// Kill ends nats-server by SIGKILL.
func (s *NATS) Kill() {
	s.t.Helper()
	if err := s.proc.kill(); err != nil {
		s.t.Fatal(err)
	}
}

// Connections returns how many clients are connected. One that was killed counts
// until all that it had sent has been read.
func (s *NATS) Connections() int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.monitor+"/connz", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var connz struct {
		Open int `json:"num_connections"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&connz); err != nil {
		s.t.Fatal(err)
	}
	return connz.Open
}

// Connect returns a connection that outlives restarts of the server and is
// closed with the test.
func (s *NATS) Connect() *nats.Conn {
	s.t.Helper()
	conn, err := nats.Connect(s.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(conn.Close)
	return conn
}
