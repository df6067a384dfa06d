package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"keyhook/internal/admin"
	"keyhook/internal/backlog"
)

// desk answers as it is told.
type desk struct {
	mu             sync.Mutex
	letters        []backlog.Letter
	err            error // of every call; of a list, after its items
	jobs           []backlog.Job
	filters        []backlog.Filter
	paused         []string
	began, release chan struct{} // a list tells that it has begun, and waits
}

func (d *desk) DeadLetters(_ context.Context, f backlog.Filter) iter.Seq2[backlog.Letter, error] {
	d.mu.Lock()
	d.filters = append(d.filters, f)
	d.mu.Unlock()
	return func(yield func(backlog.Letter, error) bool) {
		if d.began != nil {
			d.began <- struct{}{}
			<-d.release
		}
		for _, l := range d.letters {
			if !yield(l, nil) {
				return
			}
		}
		if d.err != nil {
			yield(backlog.Letter{}, d.err)
		}
	}
}

func (d *desk) Owed(context.Context, backlog.Filter) iter.Seq2[backlog.Owed, error] {
	return func(yield func(backlog.Owed, error) bool) { yield(backlog.Owed{ID: "1-a", Attempts: 2}, d.err) }
}

func (d *desk) DeadLetter(_ context.Context, id string) (*backlog.Story, error) {
	if d.err != nil {
		return nil, d.err
	}
	return &backlog.Story{Letter: backlog.Letter{ID: id}}, nil
}

func (d *desk) step(_ context.Context, j backlog.Job) (*backlog.Step, error) {
	d.jobs = append(d.jobs, j)
	return &backlog.Step{Matched: 3, Done: 2, Cursor: "d1.2", Failed: []backlog.Failure{{ID: "1-a", Error: "gone"}}}, d.err
}

func (d *desk) Replay(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return d.step(ctx, j)
}
func (d *desk) PurgeDeadLetters(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return d.step(ctx, j)
}
func (d *desk) PurgeOwed(ctx context.Context, j backlog.Job) (*backlog.Step, error) {
	return d.step(ctx, j)
}

func (d *desk) Sinks(context.Context) ([]backlog.Sink, error) {
	return []backlog.Sink{{Name: "hook", Owed: 4, Paused: true}}, d.err
}

func (d *desk) Pause(_ context.Context, sink string) error {
	d.paused = append(d.paused, sink)
	return d.err
}

func (d *desk) Resume(_ context.Context, sink string) error {
	return d.Pause(context.Background(), "not "+sink)
}

// client returns a client of a server with the desk.
func client(t *testing.T, d *desk, token string) *admin.Client {
	t.Helper()
	base := run(t, admin.Config{Backlog: d, Token: token, Status: func() admin.Status { return admin.Status{Instance: "it"} }})
	c := admin.NewClient(strings.TrimPrefix(base, "http://"), token)
	t.Cleanup(c.Close)
	return c
}

func TestTheClientAsksAsTheDeskIsAsked(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 7, time.UTC)
	d := &desk{}
	for i := range 3000 { // more than a buffer holds
		d.letters = append(d.letters, backlog.Letter{ID: fmt.Sprintf("%d-a", i), Key: "/\x1b<&>", Error: strings.Repeat("x", 50), FailedAt: noon})
	}
	c := client(t, d, "s3cret")
	f := backlog.Filter{
		Rules: []string{"a", "b"}, Sends: []string{"s"}, Sinks: []string{"k&=+ "}, Reasons: []string{"render"}, KeyPrefixBase64: []byte("/\xff"),
		Error: "x y", Since: noon, Until: noon.Add(time.Hour), MinRevision: 1, MaxRevision: 1 << 60,
	}
	n := 0
	for l, err := range c.DeadLetters(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		if l.ID != d.letters[n].ID || l.Key != d.letters[n].Key || !l.FailedAt.Equal(noon) {
			t.Fatalf("got %+v", l)
		}
		n++
	}
	if n != 3000 || fmt.Sprintf("%+v", d.filters[0]) != fmt.Sprintf("%+v", f) {
		t.Errorf("%d letters of\n%+v, want\n%+v", n, d.filters[0], f)
	}
	for o, err := range c.Owed(t.Context(), backlog.Filter{}) {
		if err != nil || o.ID != "1-a" || o.Attempts != 2 {
			t.Errorf("%v: %+v", err, o)
		}
	}
	if s, err := c.DeadLetter(t.Context(), "7-a"); err != nil || s.ID != "7-a" {
		t.Errorf("%v: %+v", err, s)
	}
	j := backlog.Job{Selection: backlog.Selection{IDs: []string{"1-a"}}, Render: true, DryRun: true, Max: 5, Cursor: "d1.2"}
	for _, do := range []func(context.Context, backlog.Job) (*backlog.Step, error){c.Replay, c.PurgeDeadLetters, c.PurgeOwed} {
		s, err := do(t.Context(), j)
		if err != nil || s.Matched != 3 || s.Done != 2 || s.Cursor != "d1.2" || s.Failed[0].Error != "gone" {
			t.Errorf("%v: %+v", err, s)
		}
		if got := d.jobs[len(d.jobs)-1]; fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", j) {
			t.Errorf("asked for %+v", got)
		}
	}
	if all, err := c.Sinks(t.Context()); err != nil || len(all) != 1 || all[0].Owed != 4 || !all[0].Paused {
		t.Errorf("%v: %+v", err, all)
	}
	if err := errors.Join(c.Pause(t.Context(), "a/b"), c.Resume(t.Context(), "..")); err != nil || fmt.Sprint(d.paused) != "[a/b not ..]" {
		t.Errorf("%v: %v", err, d.paused)
	}
	if id, err := c.Instance(t.Context()); err != nil || id != "it" {
		t.Errorf("%v: %s", err, id)
	}
}

func TestTheClientIsToldWhatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		is   error
		text string
		hint string
	}{
		"an unknown id":   {fmt.Errorf("7-a: %w", backlog.ErrUnknownID), backlog.ErrUnknownID, "7-a: no dead letter has this id", ""},
		"an unknown sink": {fmt.Errorf("%w: %q", backlog.ErrUnknownSink, "x"), backlog.ErrUnknownSink, `no such sink: "x"`, ""},
		"nonsense":        {&backlog.InvalidError{Err: errors.New("nothing is selected")}, nil, "nothing is selected", ""},
		"a stop":          {backlog.ErrStopped, nil, "stopping", "started anew"},
		"a full disk":     {context.DeadlineExceeded, nil, "whether it was done is not known", "/readyz"},
		"anything":        {errors.New("oops"), nil, "oops", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, &desk{err: tt.err}, "")
			_, err := c.Replay(t.Context(), backlog.Job{})
			var refused *admin.RequestError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(refused.Hint(), tt.hint) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v", err)
			}
			if _, invalid := errors.AsType[*backlog.InvalidError](err); invalid != (name == "nonsense") {
				t.Errorf("got %v", err)
			}
			for _, err := range c.DeadLetters(t.Context(), backlog.Filter{}) { // before the first item it is as any other
				if err == nil || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// A list that fails half way does not look like a short one.
func TestAListThatEndsTooEarly(t *testing.T) {
	c := client(t, &desk{letters: make([]backlog.Letter, 3), err: errors.New("the disk is gone\nfor good")}, "")
	n := 0
	var last error
	for _, err := range c.DeadLetters(t.Context(), backlog.Filter{}) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 3 || last == nil || !strings.Contains(last.Error(), "the list ends too early: the disk is gone") {
		t.Errorf("%d items, then %v", n, last)
	}
}

func TestAnotherToken(t *testing.T) {
	base := run(t, admin.Config{Backlog: &desk{}, Token: "s3cret"})
	c := admin.NewClient(strings.TrimPrefix(base, "http://"), "other")
	defer c.Close()
	_, err := c.Sinks(t.Context())
	var refused *admin.RequestError
	if !errors.As(err, &refused) || refused.Status != 401 || !strings.Contains(refused.Hint(), "admin.token") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
}

// request sends a request as somebody else's program would.
func request(t *testing.T, method, url, body string, header map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestWhoMayAsk(t *testing.T) {
	const typed = "application/json"
	d := &desk{}
	open := run(t, admin.Config{Backlog: d})
	guarded := run(t, admin.Config{Backlog: d, Token: "s3cret"})
	for name, tt := range map[string]struct {
		method, url string
		header      map[string]string
		want        int
	}{
		"a program on this machine":      {"POST", open, map[string]string{"Content-Type": typed}, 200},
		"it gives the charset":           {"POST", open, map[string]string{"Content-Type": typed + "; charset=utf-8"}, 200},
		"by name":                        {"POST", open, map[string]string{"Content-Type": typed, "Host": "localhost:8585"}, 200},
		"its own page":                   {"POST", open, map[string]string{"Content-Type": typed, "Origin": open, "Sec-Fetch-Site": "same-origin"}, 200},
		"a form of a page":               {"POST", open, map[string]string{"Content-Type": "text/plain"}, 415},
		"no type":                        {"POST", open, nil, 415},
		"a script of another page":       {"POST", open, map[string]string{"Content-Type": typed, "Origin": "https://evil.example"}, 403},
		"a browser says so":              {"POST", open, map[string]string{"Content-Type": typed, "Sec-Fetch-Site": "cross-site"}, 403},
		"a page with a name of its own":  {"POST", open, map[string]string{"Content-Type": typed, "Host": "evil.example:8585", "Origin": "http://evil.example:8585"}, 403},
		"a page that reads":              {"GET", open, map[string]string{"Host": "evil.example:8585"}, 403},
		"a program that reads":           {"GET", open, nil, 200},
		"another method":                 {"PUT", open, map[string]string{"Content-Type": typed}, 405},
		"no token":                       {"POST", guarded, map[string]string{"Content-Type": typed}, 401},
		"no token to read":               {"GET", guarded, nil, 401},
		"the token":                      {"POST", guarded, map[string]string{"Content-Type": typed, "Authorization": "Bearer s3cret"}, 200},
		"the token, through a proxy":     {"POST", guarded, map[string]string{"Content-Type": typed, "Authorization": "Bearer s3cret", "Host": "keyhook.example"}, 200},
		"the token, from another origin": {"POST", guarded, map[string]string{"Content-Type": typed, "Authorization": "Bearer s3cret", "Origin": "https://evil.example"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			path, body := "/api/v1/owed/purge", "{}"
			if tt.method == "GET" {
				path, body = "/api/v1/dead-letters", ""
			}
			d.jobs = nil
			got, text := request(t, tt.method, tt.url+path, body, tt.header)
			if got != tt.want {
				t.Errorf("got %d: %s", got, text)
			}
			if (len(d.jobs) == 1) != (tt.method == "POST" && tt.want == 200) {
				t.Errorf("%d jobs were done", len(d.jobs))
			}
		})
	}
}

// Where others than this machine can connect, payloads are not shown and nothing
// can be changed without a token; the other pages stay as they are.
func TestTheNetworkNeedsAToken(t *testing.T) {
	s, err := admin.Listen(t.Context(), admin.Config{Listen: "0.0.0.0:0", Backlog: &desk{}, Status: func() admin.Status { return admin.Status{} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	base := "http://127.0.0.1:" + port
	for path, method := range map[string]string{
		"/api/v1/dead-letters": "GET", "/api/v1/dead-letters/1-a": "GET", "/api/v1/owed": "GET", "/api/v1/sinks": "GET",
		"/api/v1/dead-letters/replay": "POST", "/api/v1/dead-letters/purge": "POST", "/api/v1/owed/purge": "POST",
		"/api/v1/sinks/pause": "POST", "/api/v1/sinks/resume": "POST",
	} {
		status, text := request(t, method, base+path, "{}", map[string]string{"Content-Type": "application/json"})
		var p struct{ Error, Hint string }
		if err := json.Unmarshal([]byte(text), &p); err != nil || status != 403 || !strings.Contains(p.Hint, "admin.token") {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
	if status, _ := request(t, "GET", base+"/api/v1/status", "", nil); status != 200 {
		t.Errorf("the status answers %d", status)
	}
	// The client finds a server on all addresses at one of them.
	c := admin.NewClient(s.Addr(), "")
	defer c.Close()
	if _, err := c.Instance(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	base := run(t, admin.Config{Backlog: &desk{}})
	for name, tt := range map[string]struct {
		body string
		want int
		text string
	}{
		"no JSON":        {"x", 400, "cannot be read"},
		"nothing":        {"", 400, "cannot be read"},
		"another field":  {`{"sinks": 1}`, 400, `unknown field \"sinks\"`},
		"two objects":    {`{} {}`, 400, "something follows"},
		"far too many":   {`{"ids": ["` + strings.Repeat("x", 1<<20) + `"]}`, 413, "1048576"},
		"another type":   {`[]`, 400, "cannot be read"},
		"what is meant":  {`{"all": true}`, 200, ""},
		"a known filter": {`{"filter": {"sink": ["a"], "since": "2026-03-01T12:00:00Z"}}`, 200, ""},
	} {
		got, text := request(t, "POST", base+"/api/v1/dead-letters/replay", tt.body, map[string]string{"Content-Type": "application/json"})
		if got != tt.want || !strings.Contains(text, tt.text) {
			t.Errorf("%s: %d %s", name, got, text)
		}
	}
	for query, text := range map[string]string{
		"x=1": `no field \"x\"`, "since=2h": "since", "min_revision=a": "min_revision", "error=a&error=b": "2 times", "min_revision=3&max_revision=2": "no revision",
	} {
		if got, answer := request(t, "GET", base+"/api/v1/owed?"+query, "", nil); got != 400 || !strings.Contains(answer, text) {
			t.Errorf("%s: %d %s", query, got, answer)
		}
	}
}

// Requests that look into the backlog cost memory: not any number is served.
func TestRequestsAtOnceAreBounded(t *testing.T) {
	d := &desk{began: make(chan struct{}), release: make(chan struct{})}
	base := run(t, admin.Config{Backlog: d})
	answers := make(chan int, 100)
	const atOnce = 8
	for range atOnce {
		go func() {
			status, _ := request(t, "GET", base+"/api/v1/dead-letters", "", nil)
			answers <- status
		}()
		<-d.began
	}
	if status, text := request(t, "GET", base+"/api/v1/sinks", "", nil); status != 503 || !strings.Contains(text, "try again later") {
		t.Errorf("one more: %d %s", status, text)
	}
	for range atOnce {
		d.release <- struct{}{}
		if status := <-answers; status != 200 {
			t.Errorf("answered %d", status)
		}
	}
	if status, _ := request(t, "GET", base+"/api/v1/sinks", "", nil); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}
