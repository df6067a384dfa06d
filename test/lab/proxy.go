package lab

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between clients and a server, and does to their connections what
// networks do. It begins by letting everything pass.
type Proxy struct {
	Address string // where clients connect

	server   string
	listener net.Listener
	wg       sync.WaitGroup
	// sender names who a connection is from, by the first that is sent on it; nil:
	// nobody asks.
	sender func(first []byte) string

	mu      sync.Mutex
	weather weather
	changed chan struct{} // closed when the weather changes
	links   map[*link]struct{}
	closed  bool
}

// weather is how a proxy treats connections.
type weather struct {
	cut   bool
	hole  bool
	delay time.Duration
	deaf  string // to this sender: a hole for its connections
}

// StartProxy starts a proxy for the server at an address. It ends with the test.
func StartProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	return startProxy(t, server, nil)
}

func startProxy(t testing.TB, server string, sender func(first []byte) string) *Proxy {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Address: listener.Addr().String(), server: server, listener: listener, sender: sender,
		changed: make(chan struct{}), links: make(map[*link]struct{}),
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Pass lets everything through at once, as at the beginning.
func (p *Proxy) Pass() { p.become(weather{}) }

// Cut ends every connection, and each new one as soon as it is made.
func (p *Proxy) Cut() { p.become(weather{cut: true}) }

// Blackhole lets nothing through, in neither direction, and ends nothing.
func (p *Proxy) Blackhole() { p.become(weather{hole: true}) }

// swallow lets nothing through of the connections from a sender, as Blackhole
// does.
func (p *Proxy) swallow(sender string) { p.become(weather{deaf: sender}) }

// Delay holds everything back for about d.
func (p *Proxy) Delay(d time.Duration) { p.become(weather{delay: d}) }

// Sever ends every connection; new ones are treated as before.
func (p *Proxy) Sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sever()
}

// become changes the weather and returns what it was.
func (p *Proxy) become(w weather) (was weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, p.weather = p.weather, w
	close(p.changed)
	p.changed = make(chan struct{})
	if w.cut {
		p.sever()
	}
	return was
}

func (p *Proxy) sever() {
	for l := range p.links {
		l.end()
	}
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.sever()
	p.mu.Unlock()
	_ = p.listener.Close() // nothing is lost with it
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	l := &link{client: client, ended: make(chan struct{})}
	if !p.enter(l) {
		l.end()
		return
	}
	defer p.leave(l)
	// A connection through a hole is not even made on the other side.
	if !p.clear(l) {
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil || !l.join(server) {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { p.pipe(l, server, client) })
	wg.Go(func() { p.pipe(l, client, server) })
	wg.Wait()
}

// enter reports whether a new connection may live.
func (p *Proxy) enter(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather.cut {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

func (p *Proxy) leave(l *link) {
	l.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// pipe copies until one of the two ends, and ends the other.
func (p *Proxy) pipe(l *link, to, from net.Conn) {
	defer l.end()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if p.sender != nil && from == l.client {
				l.introduce(p.sender(buf[:n]))
			}
			if !p.clear(l) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// clear waits until what was just read may go on. It returns false if the
// connection ended before.
func (p *Proxy) clear(l *link) bool {
	for {
		p.mu.Lock()
		w, changed := p.weather, p.changed
		p.mu.Unlock()
		hole := w.hole || w.deaf != "" && w.deaf == l.from()
		if !hole && w.delay == 0 {
			return true
		}
		var passed <-chan time.Time // never, through a hole
		if !hole {
			passed = time.After(w.delay)
		}
		select {
		case <-passed:
			return true
		case <-changed:
		case <-l.ended:
			return false
		}
	}
}

// link is a connection through a proxy.
type link struct {
	client net.Conn
	ended  chan struct{}

	mu     sync.Mutex
	server net.Conn
	sender string // "" until it has sent something
	over   bool
}

// introduce makes known who the connection is from, once.
func (l *link) introduce(sender string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sender == "" {
		l.sender = sender
	}
}

func (l *link) from() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sender
}

// join gives the connection its other half, unless it has ended.
func (l *link) join(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = server.Close() // nothing was sent
		return false
	}
	l.server = server
	return true
}

// end ends both halves. Data on its way is lost.
func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	close(l.ended)
	err := l.client.Close()
	if l.server != nil {
		err = errors.Join(err, l.server.Close())
	}
	_ = err // how connections end is no matter
}
