// Package receiver is a webhook receiver for tests: it records every request,
// and fails them as it is told to.
//
// A [Server] has any number of inboxes, one for each path. An [Inbox] turns each
// request into an [oracle.Attempt], asks its [Plan] what to do about it, and
// wakes whoever waits for it.
package receiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Server receives webhooks on a loopback address until the test ends.
type Server struct {
	url string

	mu      sync.Mutex
	inboxes map[string]*Inbox
	open    map[net.Conn]*connection
	idle    chan struct{} // closed when the last connection ends
}

// Start starts a server. It stops with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		url:     "http://" + listener.Addr().String(),
		inboxes: make(map[string]*Inbox),
		open:    make(map[net.Conn]*connection),
		idle:    make(chan struct{}),
	}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		ConnContext:       s.connected,
		ConnState:         s.state,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("receiver: %v", err)
		}
	})
	return s
}

// Inbox returns the inbox at the path "/name", made on first use, which accepts
// everything until it is told otherwise.
func (s *Server) Inbox(name string) *Inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := s.inboxes[name]
	if box == nil {
		box = &Inbox{URL: s.url + "/" + name, plan: Accepting, tried: make(map[string]int), accepted: make(map[string]bool), changed: make(chan struct{})}
		s.inboxes[name] = box
	}
	return box
}

// AwaitHangup waits until no connection is open: whatever a dead sender had sent
// has been dealt with.
func (s *Server) AwaitHangup(ctx context.Context) error {
	// Connections are accepted in the order in which they were made: when this one
	// is answered, none of the sender's waits for that any more.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		open, idle := len(s.open), s.idle
		s.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("%d connections are still open: %w", open, context.Cause(ctx))
		}
	}
}

func (s *Server) connected(ctx context.Context, c net.Conn) context.Context {
	conn := &connection{conn: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = conn
	return context.WithValue(ctx, connKey{}, conn)
}

func (s *Server) state(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	s.mu.Lock()
	conn := s.open[c]
	s.mu.Unlock()
	if conn == nil {
		return
	}
	conn.ended()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	if len(s.open) == 0 {
		close(s.idle)
		s.idle = make(chan struct{})
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	box := s.inboxes[r.URL.Path[1:]]
	s.mu.Unlock()
	if box == nil {
		http.NotFound(w, r)
		return
	}
	box.serve(w, r)
}

type connKey struct{}

// connection remembers the last request on a connection.
type connection struct {
	conn net.Conn

	mu   sync.Mutex
	box  *Inbox
	last int // the place of the attempt in the inbox
}

func (c *connection) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.box = nil
}

func (c *connection) dealt(box *Inbox, place int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.box, c.last = box, place
}

func (c *connection) ended() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.box != nil {
		c.box.unread(c.last)
	}
}
