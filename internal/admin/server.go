package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"

	"keyhook/internal/backlog"
)

// DefaultListen is where the server listens unless it is told otherwise.
const DefaultListen = "127.0.0.1:8585"

// Config says what is served, and where.
type Config struct {
	// Listen is host:port; default 127.0.0.1:8585. Port 0 takes any free one.
	Listen string
	// Token, if set, is asked for by all but /healthz and /readyz.
	Token string
	// Status returns the present state; required. It must not block, and may be
	// called several times at once.
	Status func() Status
	// Alive returns nil while the main loop moves; nil: it always does. It must
	// not block.
	Alive func() error
	// Backlog answers what is asked about dead letters, owed deliveries and sinks;
	// nil: there are no such pages.
	Backlog backlog.Desk
	// Audit compares what is known with etcd; nil: there is no such page.
	Audit Auditor
	// Compare compares what runs with another configuration; nil: there is no such
	// page. It must not block.
	Compare Comparer
	// Metrics serves /metrics; nil: there is no such page.
	Metrics http.Handler
	// Logger is told of requests that fail on this side; default: none is.
	Logger *slog.Logger
}

// ListenError says why the server cannot listen.
type ListenError struct {
	Address string
	Err     error
	hint    string
}

func (e *ListenError) Error() string { return "admin.listen " + e.Address + ": " + e.Err.Error() }

func (e *ListenError) Unwrap() error { return e.Err }

// Hint says what to do about it; it may be empty.
func (e *ListenError) Hint() string { return e.hint }

// Server serves the pages.
type Server struct {
	cfg      Config
	token    [sha256.Size]byte
	listener net.Listener
	server   *http.Server
}

// Listen returns a server that holds its address; the caller runs or closes it.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Status == nil {
		return nil, errors.New("admin: Config.Status is missing")
	}
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, listenError(cfg.Listen, err)
	}
	s := &Server{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token)), listener: l}
	s.server = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr returns where the server listens, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, then lets open requests finish for five seconds.
// It is called once.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Close gives up the address, for a server that was never run.
func (s *Server) Close() error { return s.listener.Close() }

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /api/v1/status", s.authorized(http.HandlerFunc(s.status)))
	if s.cfg.Metrics != nil {
		mux.Handle("GET /metrics", s.authorized(s.cfg.Metrics))
	}
	if s.cfg.Backlog != nil {
		s.backlogRoutes(mux)
	}
	if s.cfg.Audit != nil {
		s.auditRoute(mux)
	}
	if s.cfg.Compare != nil {
		s.compareRoute(mux)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// authorized asks for the token before it lets a request through.
func (s *Server) authorized(next http.Handler) http.Handler {
	if s.cfg.Token == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		// Hashed, so that the comparison does not tell the token's length.
		sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], s.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="keyhook"`)
			http.Error(w, "this page needs the header Authorization: Bearer <admin.token>", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Alive != nil {
		if err := s.cfg.Alive(); err != nil {
			s.text(w, r, http.StatusServiceUnavailable, []string{err.Error()})
			return
		}
	}
	s.text(w, r, http.StatusOK, []string{"ok"})
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	st := s.cfg.Status()
	switch {
	case st.Ready:
		s.text(w, r, http.StatusOK, []string{"ready"})
	case len(st.Reasons) == 0:
		s.text(w, r, http.StatusServiceUnavailable, []string{"not ready yet"})
	default:
		s.text(w, r, http.StatusServiceUnavailable, st.Reasons)
	}
}

// text answers with one entry a line.
func (s *Server) text(w http.ResponseWriter, r *http.Request, status int, lines []string) {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(strings.Join(strings.FieldsFunc(line, func(c rune) bool { return c == '\n' || c == '\r' }), " "))
		b.WriteByte('\n')
	}
	s.write(w, r, "text/plain; charset=utf-8", status, []byte(b.String()))
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st := s.cfg.Status()
	st.derive(time.Now(), heap())
	var page bytes.Buffer
	enc := json.NewEncoder(&page)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // keys are read by people
	if err := enc.Encode(st); err != nil {
		s.cfg.Logger.ErrorContext(r.Context(), "status page failed", "error", err)
		http.Error(w, "the status cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	s.write(w, r, typeJSON, http.StatusOK, page.Bytes())
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, contentType string, status int, page []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if _, err := w.Write(page); err != nil {
		s.cfg.Logger.DebugContext(r.Context(), "admin client left", "path", r.URL.Path, "error", err)
	}
}

// heap returns the bytes of live and not yet collected objects. Unlike
// runtime.ReadMemStats it does not stop the process.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// listenError keeps what is wrong, and says what to do about it.
func listenError(address string, err error) error {
	e := &ListenError{Address: address, Err: err}
	var op *net.OpError
	if errors.As(err, &op) {
		e.Err = op.Err // the address is said already
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.hint = "is another keyhook running? Choose another address with admin.listen; port 0 takes any free one"
	case errors.Is(err, syscall.EACCES):
		e.hint = "ports below 1024 need privileges; choose a higher one with admin.listen"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.hint = "this machine has no such address; admin.listen takes one of its own, or :8585 for all of them"
	default:
		e.hint = "admin.listen is host:port, such as " + DefaultListen
	}
	return e
}
