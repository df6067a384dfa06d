package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"keyhook"
	"keyhook/sinks"
	"keyhook/sinks/redact"
)

const (
	// maxDrain is how much of an answer is read so that its connection can be
	// used again.
	maxDrain = 64 << 10
	// maxExcerpt is how much of an answer is looked at for an error.
	maxExcerpt = 4 << 10
	// idleTimeout closes connections that nothing has used. Balancers commonly
	// drop them silently after 60s.
	idleTimeout = 50 * time.Second
)

// Sink posts deliveries to one URL.
type Sink struct {
	url       *url.URL
	host      string      // of the Host header, where it is not the URL's
	header    http.Header // of every request
	keys      []signingKey
	timeout   time.Duration
	table     *table
	redact    *redact.Redactor
	transport *http.Transport
	deadlines chan *deadline // of attempts that are over, to be used again
}

var _ sinks.Sink = (*Sink)(nil)

// New returns a sink for c, or every mistake in c: joined errors of type
// [*FieldError]. It makes no connection.
func New(c Config) (*Sink, error) {
	s, err := c.check()
	if err != nil {
		return nil, err
	}
	s.redact = newRedactor(c, s.url)
	s.url.User = nil
	concurrency := c.Concurrency
	if concurrency == 0 {
		concurrency = DefaultConcurrency
	}
	s.deadlines = make(chan *deadline, concurrency)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.transport = &http.Transport{
		DialContext:            newDialer(s.timeout, c.Resolver).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs},
		TLSHandshakeTimeout:    s.timeout,
		MaxIdleConns:           concurrency,
		MaxIdleConnsPerHost:    concurrency,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
	return s, nil
}

// Deliver posts ds one after the other.
func (s *Sink) Deliver(ctx context.Context, ds []*keyhook.Delivery) []error {
	errs := make([]error, len(ds))
	for i, d := range ds {
		errs[i] = s.attempt(ctx, d)
	}
	return errs
}

// Close drops the idle connections.
func (s *Sink) Close() error {
	for len(s.deadlines) > 0 {
		(<-s.deadlines).end()
	}
	s.transport.CloseIdleConnections()
	return nil
}

func (s *Sink) attempt(parent context.Context, d *keyhook.Delivery) error {
	if parent.Err() != nil {
		return &sinks.Error{Kind: sinks.Interrupted, Err: errors.New("stopped before the request was sent")}
	}
	header, err := s.headers(d, time.Now().Unix())
	if err != nil {
		return &sinks.Error{Kind: sinks.Rejected, Err: errors.New(s.redact.Clean(err.Error(), false))}
	}
	within, completed := s.begin(parent), false
	defer func() { s.finish(within, completed) }()
	p := newPayload(d.Message.Body)
	defer p.release()
	req := (&http.Request{
		Method: http.MethodPost, URL: s.url, Host: s.host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(d.Message.Body)), Body: http.NoBody,
	}).WithContext(within.ctx)
	if len(d.Message.Body) > 0 {
		req.Body = p.reader()
		req.GetBody = func() (io.ReadCloser, error) { return p.reader(), nil }
	}

	// RoundTrip and not a Client: no redirects, no cookies, and no errors that
	// quote the URL.
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return s.broken(parent, within.ctx, within.connected, err)
	}
	defer resp.Body.Close()
	if s.table.of(resp.StatusCode) == accept {
		completed = drain(resp, maxDrain)
		return nil
	}
	return s.refusal(resp)
}

// broken is failure with what it says of the receiver.
func (s *Sink) broken(parent, ctx context.Context, connected bool, err error) error {
	failure := s.failure(parent, ctx, err)
	var e *sinks.Error
	if !connected && errors.As(failure, &e) && e.Kind == sinks.Retry {
		e.Reach = sinks.Unconnected
	}
	return failure
}

// failure is the error of an attempt that brought no status.
func (s *Sink) failure(parent, ctx context.Context, err error) error {
	switch {
	case parent.Err() != nil:
		return &sinks.Error{Kind: sinks.Interrupted, Err: errors.New("stopped before an answer came")}
	case ctx.Err() != nil:
		return &sinks.Error{Reach: sinks.Unanswered, Err: fmt.Errorf("no answer within %v", s.timeout)}
	}
	for _, broken := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		// Which of them it is depends on who looks first, and their texts name
		// ports that nobody wants to know.
		if errors.Is(err, broken) {
			return &sinks.Error{Reach: sinks.Unanswered, Err: errors.New("the receiver broke the connection before it answered")}
		}
	}
	return &sinks.Error{Err: errors.New(s.redact.Clean(err.Error(), false))}
}

// refusal is the error of an attempt that was answered with a status other than
// 2xx.
func (s *Sink) refusal(resp *http.Response) error {
	kind, after := s.table.judge(resp.StatusCode, resp.Header, time.Now())
	text := fmt.Sprintf("HTTP %d", resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		text += " " + name
	}
	if resp.StatusCode >= 300 && resp.StatusCode <= 399 {
		text += ": redirects are not followed, the url must be the final one"
	}
	if excerpt := s.excerpt(resp); excerpt != "" {
		text += ": " + excerpt
	}
	return &sinks.Error{Kind: kind, Reach: reach(resp.StatusCode), RetryAfter: after, Status: resp.StatusCode, Err: errors.New(text)}
}

// excerpt returns the beginning of the answer, free of secrets, and drains it.
func (s *Sink) excerpt(resp *http.Response) string {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return ""
	}
	// As far as it comes: the status has been given.
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt))
	if err == nil {
		drain(resp, maxDrain-maxExcerpt)
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return ""
	}
	return s.redact.Clean(string(text), err != nil || len(text) == maxExcerpt)
}

// drain reads what is left of an answer, if that is worth it: a connection is
// used again only when its last answer was read to the end. It reports whether
// that was so.
func drain(resp *http.Response, limit int64) (whole bool) {
	if resp.Body == http.NoBody {
		return true
	}
	if resp.ContentLength > limit {
		return false
	}
	// A failure costs the connection and nothing else.
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, limit))
	return err == nil && n < limit
}
