package watch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"keyhook"
)

// ClientConfig says how to reach an etcd.
type ClientConfig struct {
	Endpoints []string
	Username  string
	Password  string    // never in an error or a log
	TLS       *TLSFiles // nil: none, or the system's authorities for https endpoints
	// Timeout of the first authentication; default 5s.
	Timeout time.Duration
}

// TLSFiles are PEM files. They are read again for each new connection, so that
// they can be replaced at any time; while they cannot be used the last ones are
// that could.
type TLSFiles struct {
	CAFile     string // default: the system's authorities
	CertFile   string // of the client; needs KeyFile
	KeyFile    string
	ServerName string // default: the endpoint's host
}

const (
	keepAliveTime    = 10 * time.Second // etcd closes connections that ping more often than every 5s
	keepAliveTimeout = 5 * time.Second
	defaultTimeout   = 5 * time.Second
	minConnectDelay  = 100 * time.Millisecond
	maxConnectDelay  = time.Second // it adds to Config.RetryMax: how long after an outage etcd is found
)

// Connect returns a client for etcd. It does not wait for a connection, except
// to authenticate the user, if there is one; an [*Error] of kind Unreachable or
// AuthFailed can be tried again. The caller closes the client.
func Connect(ctx context.Context, cfg ClientConfig) (*clientv3.Client, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("etcd has no endpoints")
	}
	if (cfg.Username == "") != (cfg.Password == "") {
		return nil, errors.New("a user of etcd needs both a name and a password")
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{grpc.WithDisableServiceConfig(), grpc.WithDefaultServiceConfig(serviceConfig)}
	if cfg.TLS != nil {
		options = append(options, grpc.WithTransportCredentials(newRotating(cfg, tlsConfig)))
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = minConnectDelay, maxConnectDelay
	// The client keeps the context that it was made with; it must outlive this
	// call if it succeeds, and end with it if it does not.
	clientCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	client, err := clientv3.New(clientv3.Config{
		Context:              clientCtx,
		Endpoints:            cfg.Endpoints,
		Username:             cfg.Username,
		Password:             cfg.Password,
		TLS:                  tlsConfig,
		DialTimeout:          cfg.Timeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		DialOptions:          append(options, grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: cfg.Timeout})),
		Logger:               zap.NewNop(), // what goes wrong is in errors
	})
	if !stop() {
		if err == nil {
			err = client.Close()
		}
		return nil, errors.Join(ctx.Err(), err)
	}
	if err != nil {
		cancel()
		e := classify(keyhook.Range{}, cfg.Username, err)
		return nil, &connectError{e}
	}
	return client, nil
}

// connectError is an Error that concerns no range.
type connectError struct{ cause *Error }

func (e *connectError) Error() string { return e.cause.Err.Error() }
func (e *connectError) Unwrap() error { return e.cause }

func (cfg ClientConfig) tls() (*tls.Config, error) {
	secure := 0
	for _, e := range cfg.Endpoints {
		if strings.HasPrefix(e, "https://") || strings.HasPrefix(e, "unixs:") {
			secure++
		}
		if cfg.TLS != nil && strings.HasPrefix(e, "http://") {
			return nil, fmt.Errorf("the endpoint %s does not use TLS, but files for TLS are given", e)
		}
	}
	if secure > 0 && secure < len(cfg.Endpoints) && cfg.TLS == nil {
		return nil, errors.New("some endpoints of etcd use TLS and others do not")
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS == nil {
		if secure > 0 {
			return c, nil
		}
		return nil, nil //nolint:nilnil // plaintext is a fine answer
	}
	c.ServerName = cfg.TLS.ServerName
	if cfg.TLS.CAFile != "" {
		pem, err := os.ReadFile(cfg.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the authorities of etcd: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", cfg.TLS.CAFile)
		}
	}
	if (cfg.TLS.CertFile == "") != (cfg.TLS.KeyFile == "") {
		return nil, errors.New("a client certificate for etcd needs both a certificate and a key")
	}
	if cfg.TLS.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(cfg.TLS.CertFile, cfg.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for etcd: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// rotating are credentials whose files are read for each connection.
type rotating struct {
	credentials.TransportCredentials // for what is not about a connection
	cfg                              ClientConfig

	mu   sync.Mutex
	last *tls.Config // that could be read
}

func newRotating(cfg ClientConfig, first *tls.Config) *rotating {
	return &rotating{TransportCredentials: credentials.NewTLS(first), cfg: cfg, last: first}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (r *rotating) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(r.load()).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (r *rotating) Clone() credentials.TransportCredentials { return newRotating(r.cfg, r.load()) }

// load returns what the files say now. They are replaced one after the other, and
// may not fit together for a moment.
func (r *rotating) load() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, err := r.cfg.tls(); err == nil {
		r.last = c
	}
	return r.last
}

// ClusterID returns the id of the etcd behind client, by a linearizable read of
// the first of ranges: the permissions that watching them needs suffice.
func ClusterID(ctx context.Context, client *clientv3.Client, ranges []keyhook.Range) (uint64, error) {
	etcd := newEtcd(client, defaultTimeout)
	r := keyhook.Single([]byte{0})
	if len(ranges) > 0 {
		r = ranges[0]
	}
	h, err := etcd.head(ctx, r)
	if err != nil {
		return 0, classify(r, client.Username, err)
	}
	return h.cluster, nil
}
