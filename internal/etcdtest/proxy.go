package etcdtest

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
)

// proxy stands between clients and the server, so that connections can be cut.
type proxy struct {
	t       testing.TB
	server  string // the server's socket
	network string
	address string // where clients connect

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
	wg       sync.WaitGroup
}

func newProxy(t testing.TB, dir string, tcp bool) *proxy {
	p := &proxy{
		t: t, server: filepath.Join(dir, "etcd"), network: "unix", address: filepath.Join(dir, "client"),
		conns: make(map[net.Conn]struct{}),
	}
	if tcp { // for the host name in certificates
		p.network, p.address = "tcp", "127.0.0.1:0"
	}
	return p
}

func (p *proxy) endpoint() string {
	if p.network == "tcp" {
		return "https://" + p.address
	}
	return "unix://" + p.address
}

// open lets clients connect.
func (p *proxy) open() {
	p.t.Helper()
	l, err := net.Listen(p.network, p.address) //nolint:noctx // ends with close
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.address = l, l.Addr().String()
	p.wg.Go(func() { p.accept(l) })
}

func (p *proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server) //nolint:noctx // a local socket
		if err != nil {
			_ = client.Close() // the client notices
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		if p.listener != l { // closed meanwhile, after the others were cut
			_ = errors.Join(client.Close(), server.Close())
		}
		p.mu.Unlock()
		p.wg.Go(func() { p.pipe(client, server) })
		p.wg.Go(func() { p.pipe(server, client) })
	}
}

// pipe copies until one of the two is closed, and closes both.
func (p *proxy) pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	_ = errors.Join(err, to.Close(), from.Close()) // how connections end is no matter
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, to)
	delete(p.conns, from)
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // already cut is fine
	}
}

// close cuts all connections and lets nobody connect. It waits until they are
// gone.
func (p *proxy) close() {
	p.mu.Lock()
	l := p.listener
	p.listener = nil
	p.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.Close() // nothing is lost with it
	p.cut()
	p.wg.Wait()
}
