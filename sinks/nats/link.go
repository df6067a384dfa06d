package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	natsgo "github.com/nats-io/nats.go"

	"keyhook/sinks"
	"keyhook/sinks/redact"
)

// link is one connection. It lives once: when it is lost, all that waits for an
// answer on it fails.
type link struct {
	conn   *natsgo.Conn
	inbox  string // what subjects of answers begin with, dot included; "" if none are expected
	redact *redact.Redactor

	secure bool // whether it speaks TLS

	ready chan struct{} // closed when conn is set
	gone  chan struct{} // closed when the connection is

	mu      sync.Mutex
	waiting map[uint64]question // by token
	tokens  uint64
	over    error         // why the connection is no more
	told    error         // the last error of the server that has been dealt with
	heard   chan struct{} // closed and replaced with each of them
}

// question is a message that waits for its acknowledgement.
type question struct {
	subject string
	index   int
	judge   func(subject string, reply *natsgo.Msg) verdict
	answers *answers
	slots   <-chan struct{}
}

// answers are what became of the questions of one call. Whoever asks waits for
// all of them at once: to be woken for each would cost more than to send it.
type answers struct {
	errs []error // by the index of the question
	open atomic.Int64
	all  chan struct{} // closed when none is open
}

// await returns answers of which asked counts as open until [answers.settled] is
// called for it.
func await(errs []error) *answers {
	a := &answers{errs: errs, all: make(chan struct{})}
	a.open.Store(1)
	return a
}

// settled counts one less.
func (a *answers) settled() {
	if a.open.Add(-1) == 0 {
		close(a.all)
	}
}

func newLink(redact *redact.Redactor) *link {
	return &link{
		redact: redact, ready: make(chan struct{}), gone: make(chan struct{}), heard: make(chan struct{}),
		waiting: make(map[uint64]question),
	}
}

// tokenBase is that of the numbers at the end of reply subjects.
const tokenBase = 36

// expect notes a question, which from here on gets exactly one answer, and
// returns its token.
func (l *link) expect(q question) uint64 {
	q.answers.open.Add(1)
	l.mu.Lock()
	l.tokens++
	token := l.tokens
	over := l.over
	l.waiting[token] = q
	l.mu.Unlock()
	if over != nil {
		l.settle(token, over)
	}
	return token
}

// replyTo returns the subject that the answer to a question comes on.
func (l *link) replyTo(token uint64) string {
	b := make([]byte, 0, 64)
	return string(strconv.AppendUint(append(b, l.inbox...), token, tokenBase))
}

// settle answers a question, if it has no answer yet.
func (l *link) settle(token uint64, err error) {
	l.mu.Lock()
	q, ok := l.waiting[token]
	delete(l.waiting, token)
	l.mu.Unlock()
	if ok {
		q.settle(err)
	}
}

func (q question) settle(err error) {
	q.answers.errs[q.index] = err
	if q.slots != nil {
		<-q.slots
	}
	q.answers.settled()
}

// settleAll answers every question that matches.
func (l *link) settleAll(err error, match func(question) bool) {
	var all []question
	l.mu.Lock()
	for token, q := range l.waiting {
		if match(q) {
			delete(l.waiting, token)
			all = append(all, q)
		}
	}
	l.mu.Unlock()
	for _, q := range all {
		q.settle(err)
	}
}

// reply takes in what arrived at the inbox.
func (l *link) reply(m *natsgo.Msg) {
	token, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, l.inbox), tokenBase, 64)
	if err != nil {
		return // nobody was told of it
	}
	l.mu.Lock()
	q, ok := l.waiting[token]
	l.mu.Unlock()
	if !ok {
		return // too late
	}
	if v := q.judge(q.subject, m); v.final {
		l.settle(token, v.err)
	}
}

// complain takes in an error of the server that does not end the connection.
func (l *link) complain(err error) {
	defer func() {
		l.mu.Lock()
		l.told = err
		close(l.heard)
		l.heard = make(chan struct{})
		l.mu.Unlock()
	}()
	if !errors.Is(err, natsgo.ErrPermissionViolation) {
		return
	}
	const before = "Permissions Violation for Publish to "
	_, quoted, ok := strings.Cut(err.Error(), before)
	if !ok {
		return
	}
	subject, unquoteErr := strconv.Unquote(quoted)
	if unquoteErr != nil {
		subject = strings.Trim(quoted, `"`)
	}
	l.settleAll(denied(subject), func(q question) bool { return q.subject == subject })
}

func denied(subject string) error {
	return retry("the server does not allow this user to publish to %q", subject)
}

// caughtUp returns once every complaint that came before the last flush has been
// taken in: the client library reports them by the side.
func (l *link) caughtUp(ctx context.Context) error {
	for {
		l.mu.Lock()
		told, heard := l.told, l.heard
		l.mu.Unlock()
		last := l.conn.LastError()
		if !errors.Is(last, natsgo.ErrPermissionViolation) || last == told { //nolint:errorlint // the very same error
			return nil
		}
		select {
		case <-heard:
		case <-l.gone:
			return l.cause()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// end takes in that the connection is closed. It tells why before anybody can
// notice.
func (l *link) end(tell func(why string)) {
	text := "the server closed it"
	if err := l.conn.LastError(); err != nil && !strings.Contains(err.Error(), "EOF") {
		text = l.redact.Clean(plain(err), false)
	}
	tell(text)
	err := reached(sinks.Unanswered, "the connection was lost before an acknowledgement came: %s", text)
	l.mu.Lock()
	l.over = err
	l.mu.Unlock()
	close(l.gone)
	l.settleAll(err, func(question) bool { return true })
}

// cause returns why the connection is no more; nil while it is there.
func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// alive reports whether the connection is still there.
func (l *link) alive() bool {
	select {
	case <-l.gone:
		return false
	default:
		return true
	}
}

// close ends the connection and returns when nothing is answered any more.
func (l *link) close() {
	l.conn.Close()
	<-l.gone
}

// retry returns an error that is tried again.
func retry(format string, args ...any) error {
	return &sinks.Error{Kind: sinks.Retry, Err: fmt.Errorf(format, args...)}
}

// reached is retry with what the failure says of the server as a whole.
func reached(reach sinks.Reach, format string, args ...any) error {
	return &sinks.Error{Kind: sinks.Retry, Reach: reach, Err: fmt.Errorf(format, args...)}
}

// rejected returns an error that is final for the delivery.
func rejected(format string, args ...any) error {
	return &sinks.Error{Kind: sinks.Rejected, Err: fmt.Errorf(format, args...)}
}
