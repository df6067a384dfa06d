package webhook

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// ServeByPipe connects s to h without a network, so that it runs on a fake
// clock.
func ServeByPipe(t *testing.T, s *Sink, h http.Handler) {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // ends with ErrServerClosed
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case l.conns <- there:
			return here, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// pipes is a listener of pipes.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// UsesProxy reports whether s would go through a proxy.
func UsesProxy(s *Sink) bool { return s.transport.Proxy != nil }

// NeverConnect makes s wait for ever when it connects.
func NeverConnect(s *Sink) {
	s.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
}

// CheckAddr is checkAddr.
var CheckAddr = checkAddr

// CloseIdle drops the connections that s keeps.
func CloseIdle(s *Sink) { s.transport.CloseIdleConnections() }
