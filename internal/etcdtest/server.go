package etcdtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Server is an etcd of one member. Its methods are for the goroutine of the test.
type Server struct {
	t     testing.TB
	cfg   *embed.Config
	dir   string
	proxy *proxy
	etcd  member // nil while it is stopped

	embedded bool

	rootPassword string
	tls          *TLS
}

// Option changes what Start starts.
type Option func(*Server)

// WithAuth turns authentication on, with the user root of this password.
func WithAuth(rootPassword string) Option {
	return func(s *Server) { s.rootPassword = rootPassword }
}

// WithTLS makes the server ask for a client certificate of its own authority;
// see [Server.TLS].
func WithTLS() Option {
	return func(s *Server) { s.tls = newTLS(s.t, s.dir) }
}

// WithToken makes the server's cluster another one than those of other tokens.
func WithToken(token string) Option {
	return WithConfig(func(c *embed.Config) { c.InitialClusterToken = token })
}

// WithConfig changes the configuration of the server.
func WithConfig(change func(*embed.Config)) Option {
	return func(s *Server) { change(s.cfg) }
}

const startTimeout = 60 * time.Second

// Start runs a server until the test ends.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := prepare(t, opts...)
	s.Start()
	if s.rootPassword != "" {
		s.enableAuth()
	}
	return s
}

// prepare returns a server that does not run yet.
func prepare(t testing.TB, opts ...Option) *Server {
	t.Helper()
	embedded := externalServer() == ""
	dir, err := os.MkdirTemp("", "etcd") // paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &Server{t: t, dir: dir, cfg: embed.NewConfig(), embedded: embedded}
	socket := func(name string) url.URL { return url.URL{Scheme: "unix", Path: filepath.Join(dir, name)} }
	if !embedded { // wants a port, and takes it for a part of the path
		socket = func(name string) url.URL { return url.URL{Scheme: "unix", Host: name + ":1"} }
	}
	c := s.cfg
	c.Dir = filepath.Join(dir, "data")
	c.ListenPeerUrls = []url.URL{socket("peer")}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.ListenClientUrls = []url.URL{socket("etcd")}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.TickMs, c.ElectionMs = 10, 100
	c.UnsafeNoFsync = true
	c.EnableGRPCGateway = false
	c.BcryptCost = 4
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	for _, o := range opts {
		o(s)
	}
	if s.tls != nil {
		c.ListenClientUrls[0].Scheme = "unixs"
		c.ClientTLSInfo = transport.TLSInfo{
			CertFile: s.tls.serverCert, KeyFile: s.tls.serverKey, TrustedCAFile: s.tls.CAFile, ClientCertAuth: true,
		}
	}
	s.proxy = newProxy(t, s.dir, s.tls != nil)
	if !embedded {
		s.proxy.server += ":1"
	}
	t.Cleanup(s.Stop)
	return s
}

// Start runs a stopped server again, on the data that it has.
func (s *Server) Start() {
	s.t.Helper()
	if s.etcd == nil {
		s.begin()
		s.await()
	}
}

// begin starts the server.
func (s *Server) begin() {
	s.t.Helper()
	var err error
	if s.embedded {
		var etcd *embed.Etcd
		etcd, err = embed.StartEtcd(s.cfg)
		s.etcd = inProcess{etcd}
	} else {
		s.etcd, err = s.startExternal(externalServer())
	}
	if err != nil {
		s.etcd = nil
		s.t.Fatalf("start etcd: %v", err)
	}
}

// await waits until the server serves, and lets clients connect.
func (s *Server) await() {
	s.t.Helper()
	if e, ok := s.etcd.(*external); ok {
		s.proxy.open()
		s.awaitExternal(e)
		return
	}
	etcd, ok := s.etcd.(inProcess)
	if !ok {
		s.t.Fatalf("%T does not run", s.etcd)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-etcd.Server.ReadyNotify():
	case err := <-etcd.Err():
		s.t.Fatalf("etcd failed: %v", err)
	case <-timeout.C:
		s.t.Fatal("etcd does not become ready")
	}
	s.proxy.open()
}

// Stop cuts the connections and stops the server. It does nothing to one that is
// stopped.
func (s *Server) Stop() {
	if s.etcd == nil {
		return
	}
	s.proxy.close() // or etcd would wait for watches to end
	s.etcd.stop()
	s.etcd = nil
}

// Restart stops the server and starts it again.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Disconnect cuts the connections of all clients; they can connect again.
func (s *Server) Disconnect() { s.proxy.cut() }

// Save copies the data and returns the copy's directory, for Restore. It stops
// the server and starts it again.
func (s *Server) Save() string {
	s.t.Helper()
	to := s.t.TempDir()
	s.Stop()
	if err := os.CopyFS(to, os.DirFS(s.cfg.Dir)); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
	return to
}

// Restore stops the server and starts it again with the data that was saved: its
// history is rolled back, its cluster id is the same.
func (s *Server) Restore(saved string) {
	s.t.Helper()
	s.Stop()
	if err := os.RemoveAll(s.cfg.Dir); err != nil {
		s.t.Fatal(err)
	}
	if err := os.CopyFS(s.cfg.Dir, os.DirFS(saved)); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(s.cfg.Dir, 0o700); err != nil { //nolint:gosec // a directory
		s.t.Fatal(err)
	}
	s.Start()
}

// Wipe stops the server and starts it again without data: another history, under
// the same cluster id.
func (s *Server) Wipe() {
	s.t.Helper()
	s.Stop()
	if err := os.RemoveAll(s.cfg.Dir); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
}

// Endpoints returns where clients reach the server. It stays the same over
// restarts.
func (s *Server) Endpoints() []string { return []string{s.proxy.endpoint()} }

// TLS returns the files of a server that was started WithTLS.
func (s *Server) TLS() *TLS { return s.tls }

// Client returns a client that may do everything. It is closed when the test
// ends.
func (s *Server) Client() *clientv3.Client {
	s.t.Helper()
	user := ""
	if s.rootPassword != "" {
		user = "root"
	}
	return s.client(user, s.rootPassword)
}

// ClientAs returns a client of a user. It is closed when the test ends.
func (s *Server) ClientAs(user, password string) *clientv3.Client {
	s.t.Helper()
	return s.client(user, password)
}

func (s *Server) client(user, password string) *clientv3.Client {
	s.t.Helper()
	soon := backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.6, MaxDelay: 100 * time.Millisecond}
	c, err := clientv3.New(clientv3.Config{
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: soon, MinConnectTimeout: startTimeout})},
		Endpoints:   s.Endpoints(), Username: user, Password: password, TLS: s.clientTLS(),
		DialTimeout: startTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		s.t.Fatalf("connect to etcd: %v", err)
	}
	s.t.Cleanup(func() { _ = c.Close() }) // returns the end of its own context
	return c
}

func (s *Server) clientTLS() *tls.Config {
	if s.tls == nil {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(s.tls.CertFile, s.tls.KeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	pem, err := os.ReadFile(s.tls.CAFile)
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: roots}
}

func (s *Server) enableAuth() {
	s.t.Helper()
	c := s.client("", "")
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", s.rootPassword); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			s.t.Fatalf("turn authentication on: %v", err)
		}
	}
}

// AddUser makes a user that may read the keys of the given ranges, each a pair
// of start and end, and write nothing. The server needs authentication.
func (s *Server) AddUser(name, password string, read ...[2]string) {
	s.t.Helper()
	c := s.Client()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatalf("add the user %s: %v", name, err)
		}
	}
	_, err := c.UserAdd(ctx, name, password)
	must(err)
	_, err = c.RoleAdd(ctx, name)
	must(err)
	for _, r := range read {
		_, err = c.RoleGrantPermission(ctx, name, r[0], r[1], clientv3.PermissionType(clientv3.PermRead))
		must(err)
	}
	_, err = c.UserGrantRole(ctx, name, name)
	must(err)
}
