package webhook

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// What follows says how an attempt would be judged without making one, for tests
// of rules.

// Judge returns what Deliver returns for an answer with a status and headers;
// nil where it settles the delivery.
func (s *Sink) Judge(status int, h http.Header) error {
	if s.table.of(status) == accept {
		return nil
	}
	if h == nil {
		h = http.Header{}
	}
	return s.refusal(&http.Response{StatusCode: status, Header: h, Body: http.NoBody})
}

// Unanswered returns what Deliver returns where no answer comes in time.
func (s *Sink) Unanswered() error {
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	return s.failure(context.Background(), ctx, ctx.Err())
}

// Unreachable returns what Deliver returns where nobody listens.
func (s *Sink) Unreachable() error {
	ctx := context.Background()
	return s.failure(ctx, ctx, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)})
}
