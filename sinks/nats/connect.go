package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"keyhook/sinks"
)

const (
	// connectTimeout bounds the attempt at one server.
	connectTimeout = 5 * time.Second
	// pause is how long a failed attempt to connect stands for those that follow.
	pause = 500 * time.Millisecond
	// A connection is given up when two pings have not been answered.
	pingInterval = 20 * time.Second
	maxPings     = 2
)

// dialing is an attempt to connect that several deliveries wait for.
type dialing struct {
	done chan struct{}
	link *link // set, or else err, when done is closed
	err  error
}

// connected returns a connection, if need be once the attempt that is under way
// has ended. Errors but those of ctx are typed and free of secrets.
func (s *Sink) connected(ctx context.Context) (*link, error) {
	s.mu.Lock()
	switch {
	case s.closed:
		defer s.mu.Unlock()
		return nil, ErrClosed
	case s.link != nil && s.link.alive():
		defer s.mu.Unlock()
		return s.link, nil
	}
	if s.dialing == nil {
		if s.failed != nil && time.Since(s.failedAt) < pause {
			defer s.mu.Unlock()
			return nil, s.failed
		}
		s.dial()
	}
	d := s.dialing
	s.mu.Unlock()
	select {
	case <-d.done:
		return d.link, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial begins an attempt to connect, which Close ends. s.mu is held.
func (s *Sink) dial() {
	servers := slices.Clone(s.servers)
	if s.link != nil {
		servers = append(servers, discovered(s.link, s.servers)...)
	}
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] }) //nolint:gosec // spreads load
	ctx, cancel := context.WithCancel(context.Background())
	d := &dialing{done: make(chan struct{})}
	s.dialing, s.cancel = d, cancel
	s.dials.Go(func() {
		defer cancel()
		d.link, d.err = s.connect(ctx, servers)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dialing = nil
		if d.link != nil {
			s.link = d.link
		}
		s.failed, s.failedAt = d.err, time.Now()
		close(d.done)
	})
}

// target is a server to connect to.
type target struct {
	url  *url.URL
	name string // for its certificate, where the URL has an address instead
}

// discovered returns the servers of the cluster that l has heard of.
func discovered(l *link, known []target) []target {
	scheme := "nats"
	if l.secure {
		scheme = "tls"
	}
	var more []target
	for _, raw := range l.conn.DiscoveredServers() {
		u, err := url.Parse(raw)
		if err != nil || slices.ContainsFunc(known, func(t target) bool { return t.url.Host == u.Host }) {
			continue
		}
		t := target{url: &url.URL{Scheme: scheme, Host: u.Host}}
		if net.ParseIP(u.Hostname()) != nil && net.ParseIP(known[0].url.Hostname()) == nil {
			t.name = known[0].url.Hostname()
		}
		more = append(more, t)
	}
	return more
}

// unfitError is why a connection that was made is of no use to the sink.
type unfitError struct{ error }

func (e *unfitError) Unwrap() error { return e.error }

// connect tries one server after the other.
func (s *Sink) connect(ctx context.Context, servers []target) (*link, error) {
	what := "no connection to NATS"
	var failures []string
	for _, t := range servers {
		l, err := s.open(ctx, t)
		if err == nil {
			s.cfg.Log.Info("connected to NATS", "server", t.url.Host)
			return l, nil
		}
		if _, ok := errors.AsType[*unfitError](err); ok {
			what = "NATS cannot take messages"
		}
		failures = append(failures, t.url.Host+": "+s.redact.Clean(plain(err), false))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, reached(sinks.Unconnected, "%s: %s", what, strings.Join(failures, "; "))
}

// open connects to one server and makes sure that the connection is good for
// what the sink needs.
func (s *Sink) open(ctx context.Context, t target) (*link, error) {
	l := newLink(s.redact)
	opts, err := s.options(l, t)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	var dialed error
	release := func() bool { return true }
	opts = append(opts, natsgo.SetCustomDialer(dialFunc(func(network, address string) (net.Conn, error) {
		var conn net.Conn
		if conn, dialed = dialer.DialContext(ctx, network, address); dialed != nil {
			return nil, dialed
		}
		release = context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the handshake
		return socket{conn}, nil
	})))
	conn, err := natsgo.Connect(t.url.String(), opts...)
	switch {
	case dialed != nil:
		return nil, dialed // which the client library turns into "no servers"
	case err != nil:
		release()
		return nil, err
	}
	l.conn = conn
	_, err = conn.TLSConnectionState()
	l.secure = err == nil
	close(l.ready)
	if err := s.prepare(ctx, l); err != nil {
		release()
		l.close()
		return nil, errors.Join(&unfitError{err}, ctx.Err())
	}
	if !release() {
		l.close()
		return nil, ctx.Err()
	}
	return l, nil
}

type dialFunc func(network, address string) (net.Conn, error)

func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

func (s *Sink) options(l *link, t target) ([]natsgo.Option, error) {
	name := "keyhook"
	if s.cfg.Version != "" {
		name += "/" + s.cfg.Version
	}
	opts := []natsgo.Option{
		natsgo.Name(name),
		natsgo.NoReconnect(),
		natsgo.SkipHostLookup(), // the dialer does it, and can be interrupted
		natsgo.Timeout(connectTimeout),
		natsgo.PingInterval(pingInterval),
		natsgo.MaxPingsOutstanding(maxPings),
		natsgo.CustomInboxPrefix(s.cfg.InboxPrefix),
		natsgo.ClosedHandler(func(*natsgo.Conn) {
			<-l.ready
			l.end(func(why string) { s.lost(t, l, why) })
		}),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			s.cfg.Log.Warn("NATS reports an error", "server", t.url.Host, "error", s.redact.Clean(plain(err), false))
			l.complain(err)
		}),
	}
	auth, err := s.cfg.authenticate()
	if err != nil {
		return nil, err
	}
	opts = append(opts, auth...)
	if s.cfg.TLS == nil && t.url.Scheme != "tls" {
		return opts, nil
	}
	var files TLS
	if s.cfg.TLS != nil {
		files = *s.cfg.TLS
	}
	cfg, err := files.load()
	if err != nil {
		return nil, err
	}
	cfg.ServerName = t.name
	opts = append(opts, natsgo.Secure(cfg))
	if files.HandshakeFirst {
		opts = append(opts, natsgo.TLSHandshakeFirst())
	}
	return opts, nil
}

// lost tells of a connection that ended by itself.
func (s *Sink) lost(t target, l *link, why string) {
	s.mu.Lock()
	inUse := s.link == l && !s.closed
	s.mu.Unlock()
	if inUse {
		s.cfg.Log.Warn("the connection to NATS was lost", "server", t.url.Host, "error", why)
	}
}

// prepare opens the inbox, if answers are expected, and looks for the stream.
func (s *Sink) prepare(ctx context.Context, l *link) error {
	if !l.conn.HeadersSupported() {
		return errors.New("the server is too old: NATS 2.2 is the first with headers")
	}
	if !s.cfg.JetStream && !s.cfg.Request {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	inbox := l.conn.NewInbox() + "."
	l.inbox = inbox
	if _, err := l.conn.Subscribe(inbox+"*", l.reply); err != nil {
		return err
	}
	if err := l.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("it does not answer: %w", err)
	}
	if err := l.conn.LastError(); errors.Is(err, natsgo.ErrPermissionViolation) {
		return fmt.Errorf("the user may not subscribe to %q, where acknowledgements arrive; allow it, or set inbox_prefix", s.cfg.InboxPrefix+".>")
	}
	if s.cfg.Stream == "" {
		return nil
	}
	return s.findStream(ctx, l)
}

// findStream returns an error if the server says that the stream does not exist.
// A user who may not ask finds out with the first message.
func (s *Sink) findStream(ctx context.Context, l *link) error {
	told := make(chan acknowledgement, 1)
	answered := await(make([]error, 1))
	subject := "$JS.API.STREAM.INFO." + s.cfg.Stream
	token := l.expect(question{subject: subject, answers: answered, judge: func(_ string, m *natsgo.Msg) verdict {
		var info acknowledgement
		if json.Unmarshal(m.Data, &info) == nil {
			told <- info
		}
		return verdict{nil, true}
	}})
	answered.settled()
	if err := l.conn.PublishRequest(subject, l.replyTo(token), nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout/2)
	defer cancel()
	select {
	case <-answered.all:
	case <-ctx.Done():
		l.settle(token, nil)
		<-answered.all
	}
	if !l.alive() {
		return errors.New("the server closed the connection")
	}
	var info acknowledgement
	select {
	case info = <-told:
	default:
	}
	if info.Error == nil {
		return nil
	}
	switch info.Error.ErrCode {
	case codeNoStream:
		return fmt.Errorf("the stream %q does not exist: create it, as with nats stream add %s", s.cfg.Stream, s.cfg.Stream)
	case codeNotEnabled, codeNotForAccount:
		return errors.New("JetStream is not enabled for this user: enable it, or leave jetstream out to send without storing")
	}
	return nil
}
