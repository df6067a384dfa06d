package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"keyhook/internal/backlog"
)

// Client asks the process that serves an address.
type Client struct {
	base  string
	token string
	http  *http.Client
}

var _ backlog.Desk = (*Client)(nil)

// NewClient returns a client of the process that listens on address, host:port.
// The token is empty where none is asked for.
func NewClient(address, token string) *Client {
	return &Client{
		base:  "http://" + Dialable(address),
		token: token,
		http: &http.Client{
			// No proxy: the process is on this machine.
			Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				ResponseHeaderTimeout: time.Minute,
				MaxIdleConns:          2,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Dialable returns where what listens on address, host:port, is reached from this
// machine: on the loopback address, if it listens on all of them.
func Dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	switch {
	case err != nil || host != "" && (ip == nil || !ip.IsUnspecified()):
		return address
	case ip != nil && ip.To4() == nil:
		return net.JoinHostPort("::1", port)
	default:
		return net.JoinHostPort("127.0.0.1", port)
	}
}

// Close lets go of connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// RequestError is an answer that says why there is none.
type RequestError struct {
	Status int
	text   string
	hint   string
	kind   error // one of the errors of the backlog, or nil
}

func (e *RequestError) Error() string { return e.text }

// Hint says what to do about it; it may be empty.
func (e *RequestError) Hint() string { return e.hint }

func (e *RequestError) Unwrap() error { return e.kind }

// maxRefusal bounds what is read of an answer that is none.
const maxRefusal = 64 << 10

// do sends a request and returns an answer with status 200; the caller closes
// its body.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", typeJSON)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	return nil, errors.Join(refusal(resp, text), err, resp.Body.Close())
}

// refusal reads what the server says is wrong.
func refusal(resp *http.Response, text []byte) error {
	e := &RequestError{Status: resp.StatusCode}
	var p problem
	if json.Unmarshal(text, &p) == nil && p.Text != "" {
		e.text, e.hint = p.Text, p.Help
	} else {
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		e.text = strings.TrimSpace(resp.Status + " " + line)
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		e.text, e.hint = "the process asks for another token", "admin.token of the configuration must be that of the running process"
	case resp.StatusCode == http.StatusNotFound && strings.Contains(e.text, backlog.ErrUnknownID.Error()):
		e.kind = backlog.ErrUnknownID
	case resp.StatusCode == http.StatusNotFound && strings.Contains(e.text, backlog.ErrUnknownSink.Error()):
		e.kind = backlog.ErrUnknownSink
	case resp.StatusCode == http.StatusBadRequest:
		e.kind = &backlog.InvalidError{Err: errors.New(e.text)}
	}
	return e
}

// ask sends a request and reads the answer.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (answer T, err error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("the answer cannot be read: %w", err)
	}
	return answer, nil
}

// Instance returns the id of the process; see [Status.Instance].
func (c *Client) Instance(ctx context.Context) (string, error) {
	st, err := ask[struct {
		Instance string `json:"instance"`
	}](ctx, c, http.MethodGet, "/api/v1/status", nil)
	return st.Instance, err
}

// DeadLetters implements [backlog.Desk].
func (c *Client) DeadLetters(ctx context.Context, f backlog.Filter) iter.Seq2[backlog.Letter, error] {
	return lines[backlog.Letter](ctx, c, pathDeadLetters, &f)
}

// Owed implements [backlog.Desk].
func (c *Client) Owed(ctx context.Context, f backlog.Filter) iter.Seq2[backlog.Owed, error] {
	return lines[backlog.Owed](ctx, c, pathOwed, &f)
}

// lines yields the objects of a list as they arrive.
func lines[T any](ctx context.Context, c *Client, path string, f *backlog.Filter) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if q := values(f).Encode(); q != "" {
			path += "?" + q
		}
		resp, err := c.do(ctx, http.MethodGet, path, nil)
		if err != nil {
			yield(none, err)
			return
		}
		// What is not read of it is of no use to anybody.
		defer func() { _ = resp.Body.Close() }()
		for dec := json.NewDecoder(resp.Body); ; {
			var item T
			switch err := dec.Decode(&item); {
			case errors.Is(err, io.EOF) && resp.Trailer.Get(trailerError) == "":
				return
			case errors.Is(err, io.EOF):
				yield(none, errors.New("the list ends too early: "+resp.Trailer.Get(trailerError)))
				return
			case err != nil:
				yield(none, fmt.Errorf("the list ends too early: %w", err))
				return
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

// DeadLetter implements [backlog.Desk].
func (c *Client) DeadLetter(ctx context.Context, id string) (*backlog.Story, error) {
	return ask[*backlog.Story](ctx, c, http.MethodGet, pathDeadLetters+"/"+url.PathEscape(id), nil)
}

// Replay implements [backlog.Desk].
func (c *Client) Replay(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return ask[*backlog.Step](ctx, c, http.MethodPost, pathReplay, j)
}

// PurgeDeadLetters implements [backlog.Desk].
func (c *Client) PurgeDeadLetters(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return ask[*backlog.Step](ctx, c, http.MethodPost, pathPurgeDead, j)
}

// PurgeOwed implements [backlog.Desk].
func (c *Client) PurgeOwed(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return ask[*backlog.Step](ctx, c, http.MethodPost, pathPurgeOwed, j)
}

// Sinks implements [backlog.Desk].
func (c *Client) Sinks(ctx context.Context) ([]backlog.Sink, error) {
	return ask[[]backlog.Sink](ctx, c, http.MethodGet, pathSinks, nil)
}

// Pause implements [backlog.Desk].
func (c *Client) Pause(ctx context.Context, sink string) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, pathPause, sinkName{sink})
	return err
}

// Resume implements [backlog.Desk].
func (c *Client) Resume(ctx context.Context, sink string) error {
	_, err := ask[struct{}](ctx, c, http.MethodPost, pathResume, sinkName{sink})
	return err
}
