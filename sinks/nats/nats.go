package nats

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"keyhook"
	"keyhook/sinks"
	"keyhook/sinks/redact"
)

// Sink publishes deliveries to subjects.
type Sink struct {
	cfg     Config
	servers []target
	redact  *redact.Redactor
	slots   chan struct{} // one for each message that waits for an acknowledgement
	judge   func(subject string, reply *natsgo.Msg) verdict
	known   atomic.Pointer[[]byte] // see alike
	outbox  sync.Pool              // of *outbox

	mu       sync.Mutex
	link     *link    // the last one
	dialing  *dialing // if under way
	cancel   context.CancelFunc
	failed   error // of the last attempt to connect
	failedAt time.Time
	closed   bool
	dials    sync.WaitGroup
}

var _ sinks.Batcher = (*Sink)(nil)

// New returns a sink for c, or every mistake in c: joined errors of type
// [*FieldError]. It makes no connection.
func New(c Config) (*Sink, error) {
	servers, err := c.check()
	if err != nil {
		return nil, err
	}
	s := &Sink{cfg: c, redact: redact.New(c.Password, c.Token, strings.TrimSpace(c.NKey)), slots: make(chan struct{}, c.MaxPending)}
	s.judge = s.replied
	if c.JetStream {
		s.judge = s.stored
	}
	for _, u := range servers {
		s.servers = append(s.servers, target{url: u})
	}
	return s, nil
}

// ErrClosed is what Check returns of a sink that is closed.
var ErrClosed = errors.New("the sink is closed")

// Check connects, if there is no connection, and returns what stands in the way
// of deliveries: no server, denied access, a stream that does not exist. Unlike
// Deliver it may be called beside or after Close.
func (s *Sink) Check(ctx context.Context) error {
	_, err := s.connected(ctx)
	return err
}

// batch is how many messages go at once: enough that the server is not waited
// for, and few enough that a slow one keeps few others waiting.
const batch = 32

// Batch implements [sinks.Batcher]. A reply may take an application as long as it
// likes, so that no other delivery should wait for it.
func (s *Sink) Batch() int {
	if s.cfg.Request {
		return 1
	}
	return batch
}

// Close ends the connection.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	if s.cancel != nil {
		s.cancel()
	}
	s.mu.Unlock()
	s.dials.Wait()
	if s.link != nil {
		s.link.close()
	}
	return nil
}

// Deliver publishes ds in their order, and then waits for all that is to be
// waited for.
func (s *Sink) Deliver(parent context.Context, ds []*keyhook.Delivery) []error {
	errs := make([]error, len(ds))
	if parent.Err() != nil {
		return fill(errs, s.cut(parent, "sent"))
	}
	box, ok := s.outbox.Get().(*outbox)
	if !ok {
		box = new(outbox)
	}
	defer func() {
		box.empty()
		s.outbox.Put(box)
	}()
	for i, d := range ds {
		if err := s.message(box.next(), d); err != nil {
			box.drop()
			errs[i] = rejected("%s", s.redact.Clean(plain(err), false))
			continue
		}
		box.last().index = i
	}
	if len(box.msgs) == 0 {
		return errs
	}
	ctx, cancel := context.WithTimeout(parent, s.cfg.Timeout)
	defer cancel()
	l, err := s.connected(ctx)
	switch {
	case err == nil:
		s.publish(parent, ctx, l, box, errs)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		fill(errs, s.cut(parent, "sent"))
	default:
		fill(errs, err)
	}
	return errs
}

// fill gives err to all that have none.
func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// cut is the error of a message that was not sent, or not acknowledged, before
// its context ended.
func (s *Sink) cut(parent context.Context, what string) error {
	if parent.Err() != nil {
		return &sinks.Error{Kind: sinks.Interrupted, Err: errors.New("stopped before the message was " + what)}
	}
	return reached(sinks.Unanswered, "the message was not %s within %v", what, s.cfg.Timeout)
}

// publish sends what is in the box over l and fills in what became of each.
func (s *Sink) publish(parent, ctx context.Context, l *link, box *outbox, errs []error) {
	answered := await(errs)
	for i := range box.msgs {
		m := &box.msgs[i]
		q := question{subject: m.Subject, index: m.index, answers: answered}
		if l.inbox != "" {
			q.judge, q.slots = s.judge, s.slots
		}
		if err := s.slot(ctx, l); err != nil {
			errs[m.index] = err
			if ctx.Err() != nil {
				errs[m.index] = s.cut(parent, "sent")
			}
			continue
		}
		token := l.expect(q)
		box.tokens = append(box.tokens, token)
		if l.inbox != "" {
			m.Reply = l.replyTo(token)
		}
		if err := l.conn.PublishMsg(&m.Msg); err != nil && ctx.Err() == nil {
			l.settle(token, s.unpublished(l, &m.Msg, err))
		}
	}
	answered.settled() // all that there is has been asked
	if l.inbox == "" {
		s.flush(ctx, l, box.tokens)
	}
	select {
	case <-answered.all:
	case <-ctx.Done():
		for _, token := range box.tokens {
			l.settle(token, s.cut(parent, "acknowledged"))
		}
		<-answered.all
	}
	for i := range box.msgs {
		// The connection was broken because the context had ended.
		if err := &errs[box.msgs[i].index]; parent.Err() != nil && *err != nil && *err == l.cause() { //nolint:errorlint // the very same error
			*err = s.cut(parent, "acknowledged")
		}
	}
}

// slot waits until one more message may wait for its acknowledgement. Nothing
// but a flush acknowledges those of core NATS, so that they need not wait.
func (s *Sink) slot(ctx context.Context, l *link) error {
	if ctx.Err() != nil || l.inbox == "" {
		return ctx.Err()
	}
	select {
	case s.slots <- struct{}{}: // the usual case, and cheaper by itself
		return nil
	default:
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-l.gone:
		return l.cause()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush settles what the server has read: it answers a ping behind it, and has
// told before that what it does not allow.
func (s *Sink) flush(ctx context.Context, l *link, tokens []uint64) {
	if len(tokens) == 0 || l.conn.FlushWithContext(ctx) != nil || l.caughtUp(ctx) != nil {
		return // the end of the connection or of the context settles them
	}
	for _, token := range tokens {
		l.settle(token, nil)
	}
}

// unpublished is the error of a message that the client library did not take.
func (s *Sink) unpublished(l *link, m *natsgo.Msg, err error) error {
	switch {
	case errors.Is(err, natsgo.ErrMaxPayload):
		return rejected("the message is too large: a body of %d bytes and its headers, where the server takes %d (max_payload)", len(m.Data), l.conn.MaxPayload())
	case errors.Is(err, natsgo.ErrBadSubject), errors.Is(err, natsgo.ErrBadHeaderMsg):
		return rejected("%s", s.redact.Clean(plain(err), false))
	case errors.Is(err, natsgo.ErrConnectionClosed):
		return reached(sinks.Unanswered, "the connection was lost before the message was sent")
	}
	return retry("the message was not sent: %s", s.redact.Clean(plain(err), false))
}

// plain returns what err says, without the prefix of the client library.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "nats: ") }
