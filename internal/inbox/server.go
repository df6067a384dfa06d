package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Server is an inbox that listens.
type Server struct {
	*Inbox
	listener net.Listener
}

// Listen returns an inbox that listens on address, "127.0.0.1:0" for any free
// port of loopback; the caller runs it.
func Listen(ctx context.Context, address string, cfg Config) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	return &Server{Inbox: New(cfg), listener: l}, nil
}

// URL returns where the inbox receives.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Run serves until ctx ends, then gives open requests a second, and cuts off
// the rest. It is called once.
func (s *Server) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: s.Inbox, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // it is told only of clients that left
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("inbox: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Close stops listening, for an inbox that was never run.
func (s *Server) Close() error { return s.listener.Close() }
