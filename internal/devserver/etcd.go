//go:build !nodev

package devserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Included reports whether this binary can start development servers.
const Included = true

// Etcd is a running etcd server.
type Etcd struct {
	server   *embed.Etcd
	endpoint string
	dir      string
}

// Start runs an etcd server on a free loopback port and returns once it serves.
// Its data lies in a new temporary directory, which Close removes. Nothing is
// synced to disk: a development server need not survive the machine.
func Start(ctx context.Context) (*Etcd, error) {
	dir, err := os.MkdirTemp("", "keyhook-etcd-")
	if err != nil {
		return nil, fmt.Errorf("a directory for the development etcd: %w", err)
	}
	e, err := start(ctx, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the development etcd: %w", err), os.RemoveAll(dir))
	}
	return e, nil
}

func start(ctx context.Context, dir string) (*Etcd, error) {
	anyPort := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	cfg := embed.NewConfig()
	cfg.Name = "dev"
	cfg.Dir = filepath.Join(dir, "data")
	cfg.ListenClientUrls = []url.URL{anyPort}
	cfg.AdvertiseClientUrls = []url.URL{anyPort}
	cfg.ListenPeerUrls = []url.URL{anyPort}
	cfg.AdvertisePeerUrls = []url.URL{anyPort}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, err
	case <-server.Server.StopNotify():
		server.Close()
		return nil, errors.New("it stopped at once")
	case <-ctx.Done():
		server.Close()
		return nil, context.Cause(ctx)
	}
	return &Etcd{
		server:   server,
		endpoint: "http://" + server.Clients[0].Addr().String(),
		dir:      dir,
	}, nil
}

// Endpoint returns the URL for clients.
func (e *Etcd) Endpoint() string { return e.endpoint }

// Close stops the server and removes its data.
func (e *Etcd) Close() error {
	e.server.Close()
	return os.RemoveAll(e.dir)
}
