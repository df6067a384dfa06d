//go:build !nodev

package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsStartTimeout = 30 * time.Second
	// A value of etcd may have 1.5 MiB, and a CloudEvent holds it twice when the
	// previous one is as large.
	natsMaxPayload = 8 << 20
)

// NATS is a running NATS server with JetStream.
type NATS struct {
	server *server.Server
	dir    string
}

// StartNATS runs a NATS server on a free loopback port and returns once it
// serves. Anybody on this machine may use it. What its streams keep on disk lies
// in a new temporary directory, which Close removes.
func StartNATS(ctx context.Context) (*NATS, error) {
	dir, err := os.MkdirTemp("", "keyhook-nats-")
	if err != nil {
		return nil, fmt.Errorf("a directory for the development NATS server: %w", err)
	}
	s, err := startNATS(ctx, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the development NATS server: %w", err), os.RemoveAll(dir))
	}
	return &NATS{server: s, dir: dir}, nil
}

func startNATS(ctx context.Context, dir string) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "dev", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		MaxPayload: natsMaxPayload,
		JetStream:  true, StoreDir: dir,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	ready := s.ReadyForConnections(natsStartTimeout)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case !ready:
		err = fmt.Errorf("it is not ready after %s", natsStartTimeout)
	case !s.JetStreamEnabled():
		err = errors.New("it has no JetStream")
	}
	if err != nil {
		stopNATS(s)
		return nil, err
	}
	return s, nil
}

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// URL returns where clients connect.
func (n *NATS) URL() string { return "nats://" + n.server.Addr().String() }

// Close stops the server and removes its data.
func (n *NATS) Close() error {
	stopNATS(n.server)
	return os.RemoveAll(n.dir)
}
