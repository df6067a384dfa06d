package natstest

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"keyhook/internal/freeport"
)

// Server is a NATS server of its own. Its methods are for the goroutine of the
// test, but for Kick.
type Server struct {
	t       testing.TB
	opts    server.Options
	running *server.Server // nil while it is stopped
}

const startTimeout = 30 * time.Second

// Start runs a server with JetStream until the test ends. It takes messages of
// up to 4 MiB; change may change that and all else.
func Start(t testing.TB, change func(*server.Options)) *Server {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", freeport.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, opts: server.Options{
		Host: "127.0.0.1", Port: address.Port, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: t.TempDir(), MaxPayload: 4 << 20,
	}}
	if change != nil {
		change(&s.opts)
	}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// Start runs a stopped server again, on its port and its data.
func (s *Server) Start() {
	s.t.Helper()
	opts := s.opts // the server writes into what it is given
	running, err := server.NewServer(&opts)
	if err != nil {
		s.t.Fatalf("start nats-server: %v", err)
	}
	s.running = running
	running.Start()
	if !running.ReadyForConnections(startTimeout) {
		s.t.Fatal("nats-server does not become ready")
	}
}

// Stop ends the server, as often as it is called.
func (s *Server) Stop() {
	if s.running == nil {
		return
	}
	s.running.Shutdown()
	s.running.WaitForShutdown()
	s.running = nil
}

// Address returns "127.0.0.1:port".
func (s *Server) Address() string { return s.running.Addr().String() }

// URL returns how the server is reached, without a user.
func (s *Server) URL() string { return "nats://" + s.Address() }

// Kick breaks the connections of clients whose name begins with prefix, and
// returns how many these were.
func (s *Server) Kick(prefix string) int {
	s.t.Helper()
	clients, err := s.running.Connz(&server.ConnzOptions{Limit: 1 << 10})
	if err != nil {
		s.t.Errorf("list the clients: %v", err)
		return 0
	}
	kicked := 0
	for _, c := range clients.Conns {
		if strings.HasPrefix(c.Name, prefix) && s.running.DisconnectClientByID(c.Cid) == nil {
			kicked++
		}
	}
	return kicked
}

// Clients returns how many clients are connected whose name begins with prefix.
func (s *Server) Clients(prefix string) int {
	s.t.Helper()
	clients, err := s.running.Connz(&server.ConnzOptions{Limit: 1 << 10})
	if err != nil {
		s.t.Fatalf("list the clients: %v", err)
	}
	n := 0
	for _, c := range clients.Conns {
		if strings.HasPrefix(c.Name, prefix) {
			n++
		}
	}
	return n
}

// Connections returns how many connections clients have ever made.
func (s *Server) Connections() uint64 {
	s.t.Helper()
	vars, err := s.running.Varz(nil)
	if err != nil {
		s.t.Fatalf("ask nats-server: %v", err)
	}
	return vars.TotalConnections
}

// ClusterAddress returns where other servers of the cluster connect to.
func (s *Server) ClusterAddress() string { return s.running.ClusterAddr().String() }

// Routes returns how many connections to other servers of the cluster there are.
func (s *Server) Routes() int { return s.running.NumRoutes() }

// Client returns a connection that ends with the test, or with Stop.
func (s *Server) Client(opts ...natsgo.Option) *natsgo.Conn {
	s.t.Helper()
	conn, err := natsgo.Connect(s.URL(), append([]natsgo.Option{natsgo.Name("natstest")}, opts...)...)
	if err != nil {
		s.t.Fatalf("connect to nats-server: %v", err)
	}
	s.t.Cleanup(conn.Close)
	return conn
}
