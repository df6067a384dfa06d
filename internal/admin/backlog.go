package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"keyhook/internal/backlog"
	"keyhook/internal/hint"
)

// The paths of what is asked of the backlog.
const (
	pathDeadLetters = "/api/v1/dead-letters"
	pathReplay      = "/api/v1/dead-letters/replay"
	pathPurgeDead   = "/api/v1/dead-letters/purge"
	pathOwed        = "/api/v1/owed"
	pathPurgeOwed   = "/api/v1/owed/purge"
	pathSinks       = "/api/v1/sinks"
	pathPause       = "/api/v1/sinks/pause"
	pathResume      = "/api/v1/sinks/resume"
)

const (
	// maxBody bounds what is asked with a request: some ten thousand ids.
	maxBody = 1 << 20
	// maxAtOnce bounds the requests that look into the backlog at a time.
	maxAtOnce = 8
	// stepPatience is how long a change may take to become durable. It is below
	// what the server gives a whole answer.
	stepPatience = 25 * time.Second
	// writePatience is how long a client may take to read a part of a list.
	writePatience = 30 * time.Second

	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	// trailerError follows a list that ends too early.
	trailerError = "Keyhook-Error"
)

// problem is an answer that is none.
type problem struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Help   string `json:"hint,omitempty"`
}

func (p *problem) Error() string { return p.Text }

// Hint says what to do about it; it may be empty.
func (p *problem) Hint() string { return p.Help }

// sinkName is the request to pause or resume a sink.
type sinkName struct {
	Sink string `json:"sink"`
}

// backlogRoutes adds what the backlog is asked with.
func (s *Server) backlogRoutes(mux *http.ServeMux) {
	g := s.newGate(maxAtOnce, fmt.Sprintf("more than %d requests look into the backlog", maxAtOnce), "try again later")
	add := func(method, path string, serve func(http.ResponseWriter, *http.Request) error) {
		s.handle(mux, method+" "+path, g, serve)
	}
	desk := s.cfg.Backlog
	add(http.MethodGet, pathDeadLetters, func(w http.ResponseWriter, r *http.Request) error {
		return list(w, r, desk.DeadLetters)
	})
	add(http.MethodGet, pathOwed, func(w http.ResponseWriter, r *http.Request) error {
		return list(w, r, desk.Owed)
	})
	add(http.MethodGet, pathDeadLetters+"/{id}", func(w http.ResponseWriter, r *http.Request) error {
		story, err := desk.DeadLetter(r.Context(), r.PathValue("id"))
		return s.answer(w, r, story, err)
	})
	add(http.MethodGet, pathSinks, func(w http.ResponseWriter, r *http.Request) error {
		sinks, err := desk.Sinks(r.Context())
		return s.answer(w, r, sinks, err)
	})
	for path, do := range map[string]func(context.Context, backlog.Job) (*backlog.Step, error){
		pathReplay: desk.Replay, pathPurgeDead: desk.PurgeDeadLetters, pathPurgeOwed: desk.PurgeOwed,
	} {
		add(http.MethodPost, path, func(w http.ResponseWriter, r *http.Request) error {
			var j backlog.Job
			if err := read(w, r, &j); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(r.Context(), stepPatience)
			defer cancel()
			step, err := do(ctx, j)
			return s.answer(w, r, step, err)
		})
	}
	for path, do := range map[string]func(context.Context, string) error{pathPause: desk.Pause, pathResume: desk.Resume} {
		add(http.MethodPost, path, func(w http.ResponseWriter, r *http.Request) error {
			var name sinkName
			if err := read(w, r, &name); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(r.Context(), stepPatience)
			defer cancel()
			return s.answer(w, r, struct{}{}, do(ctx, name.Sink))
		})
	}
}

// read reads a request.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	return readUpTo(w, r, maxBody, into)
}

func readUpTo(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil && dec.More() {
		err = errors.New("something follows the object")
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d bytes", large.Limit), "name fewer ids, or select with a filter"}
	case err != nil:
		return &problem{http.StatusBadRequest, "the request cannot be read: " + err.Error(), ""}
	}
	return nil
}

// answer answers with a result.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, result any, err error) error {
	if err != nil {
		return err
	}
	page, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("the result cannot be shown: %w", err)
	}
	s.write(w, r, typeJSON, http.StatusOK, append(page, '\n'))
	return nil
}

// list answers with one object a line, as they come.
func list[T any](w http.ResponseWriter, r *http.Request, all func(context.Context, backlog.Filter) iter.Seq2[T, error]) error {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		return &problem{http.StatusBadRequest, err.Error(), ""}
	}
	out := bufio.NewWriterSize(&patient{w, http.NewResponseController(w)}, 32<<10)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	begun := false
	begin := func() {
		if !begun {
			w.Header().Set("Content-Type", typeNDJSON)
			w.Header().Set("Trailer", trailerError)
			begun = true
		}
	}
	for item, err := range all(r.Context(), f) {
		if err != nil && !begun {
			return err
		}
		if err == nil {
			begin()
			err = lines.Encode(item)
		}
		if err != nil {
			w.Header().Set(trailerError, problemOf(err).Text)
			break
		}
	}
	begin()
	_ = out.Flush() // the client has left, or sees that the list ends too early
	return nil
}

// patient gives a slow client time for each part of an answer.
type patient struct {
	w    io.Writer
	conn *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.conn.SetWriteDeadline(time.Now().Add(writePatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

// refuse answers with what is wrong.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		s.cfg.Logger.ErrorContext(r.Context(), "admin request failed", "path", r.URL.Path, "error", err)
	}
	page, err := json.Marshal(p)
	if err != nil {
		page = []byte(`{"error":"the error cannot be shown"}`)
	}
	s.write(w, r, typeJSON, p.Status, append(page, '\n'))
}

// problemOf says what an error means to the client.
func problemOf(err error) *problem {
	var known *problem
	var invalid *backlog.InvalidError
	p := &problem{http.StatusInternalServerError, err.Error(), hint.Of(err)}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &invalid):
		p.Status = http.StatusBadRequest
	case errors.Is(err, backlog.ErrUnknownID), errors.Is(err, backlog.ErrUnknownSink):
		p.Status = http.StatusNotFound
	case errors.Is(err, backlog.ErrStopped):
		p.Status, p.Help = http.StatusServiceUnavailable, "try again when it has started anew"
	case errors.Is(err, context.DeadlineExceeded):
		p.Status = http.StatusServiceUnavailable
		p.Text = fmt.Sprintf("nothing became durable within %s: whether it was done is not known", stepPatience)
		p.Help = "/readyz says whether commits fail; look again when they succeed"
	}
	return p
}
