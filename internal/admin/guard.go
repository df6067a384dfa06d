package admin

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard refuses what may not show payloads or change anything. Who has the token
// may do all. Where none is configured, whoever can open a connection from this
// machine may; but pages in a browser on this machine can have it send requests
// as well, and must not.
type guard struct {
	token    bool
	loopback bool // only this machine can connect
	origin   *http.CrossOriginProtection
}

func newGuard(token bool, listens net.Addr) *guard {
	g := &guard{token: token, origin: http.NewCrossOriginProtection()}
	if tcp, ok := listens.(*net.TCPAddr); ok {
		g.loopback = tcp.IP.IsLoopback()
	}
	return g
}

// check returns why a request is refused, nil if it is not.
func (g *guard) check(r *http.Request) error {
	switch {
	case !g.token && !g.loopback:
		return &problem{http.StatusForbidden, "this needs a token, because others than this machine can connect",
			"set admin.token, or let admin.listen be an address of this machine alone, such as " + DefaultListen}
	case !g.token && !local(r.Host):
		// A page may give a name of its own the address 127.0.0.1, and is then of
		// the same origin as its requests.
		return &problem{http.StatusForbidden, "the request is for the host " + quoted(r.Host) + ", which is not a name of this machine",
			"ask 127.0.0.1 or localhost, or set admin.token"}
	case r.Method == http.MethodGet:
		return nil
	case g.origin.Check(r) != nil:
		return &problem{http.StatusForbidden, "the request comes from a page of another origin", ""}
	}
	// A form of a page cannot have this type, and a script has to ask first.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != typeJSON {
		return &problem{http.StatusUnsupportedMediaType, "the request must have the header Content-Type: " + typeJSON, ""}
	}
	return nil
}

// gate lets requests through that may pass the guard, and few of them at a time.
type gate struct {
	guard *guard
	busy  chan struct{}
	full  *problem // the answer to one more
}

func (s *Server) newGate(atOnce int, full, help string) *gate {
	return &gate{
		guard: newGuard(s.cfg.Token != "", s.listener.Addr()), busy: make(chan struct{}, atOnce),
		full: &problem{http.StatusServiceUnavailable, full, help},
	}
}

// handle adds a page behind a gate. An error of serve is its answer.
func (s *Server) handle(mux *http.ServeMux, pattern string, g *gate, serve func(http.ResponseWriter, *http.Request) error) {
	mux.Handle(pattern, s.authorized(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.pass(w, r, serve); err != nil {
			s.refuse(w, r, err)
		}
	})))
}

func (g *gate) pass(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request) error) error {
	if err := g.guard.check(r); err != nil {
		return err
	}
	select {
	case g.busy <- struct{}{}:
		defer func() { <-g.busy }()
	default:
		return g.full
	}
	return serve(w, r)
}

// local reports whether a Host header names this machine as nobody else can.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// quoted returns a header's value as it may be told.
func quoted(s string) string {
	const most = 100
	if len(s) > most {
		s = s[:most]
	}
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r > '~' {
			return '?'
		}
		return r
	}, s) + `"`
}
