package inbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Defaults of a Config.
const (
	DefaultKeep    = 1000
	DefaultMaxBody = 4 << 20
)

// maxIDs is how many ids are told apart; of older ones a repetition counts as
// something new.
const maxIDs = 1 << 18

// Config says how an inbox behaves. The zero Config accepts everything.
type Config struct {
	// Reply decides what a request is answered; nil accepts all with 204. It is
	// called from many goroutines at once.
	Reply func(Request) Reply
	// Arrived is called with every request when its answer is decided and right
	// before it is sent, one at a time. It must not call the inbox.
	Arrived func(Request)
	// Keep is how many requests are kept; default 1000.
	Keep int
	// MaxBody is the longest body that is read, in bytes; a longer one is
	// answered 413. Default 4 MiB.
	MaxBody int64
}

// Request is one request as it arrived.
type Request struct {
	Number  int    // from 1, in the order of arrival
	Attempt int    // from 1: the how-manieth with this ID
	ID      string // of webhook-id
	Time    time.Time
	Method  string
	Path    string // with the query
	Header  http.Header
	Body    []byte

	// Status is what it is answered: 0 if the connection is reset or the client
	// went away first.
	Status int
}

// Acknowledged reports whether the request was answered with 2xx.
func (r Request) Acknowledged() bool { return r.Status >= 200 && r.Status <= 299 }

// Reply is an answer.
type Reply struct {
	Status int // 0 means 204
	Header http.Header
	Body   string
	// Delay is waited for before the answer, unless the client leaves.
	Delay time.Duration
	// Until, if set, is waited for before the answer, unless the client leaves.
	Until <-chan struct{}
	// Reset closes the connection with a TCP reset, without an answer.
	Reset bool
}

// Counts are totals since the inbox was made.
type Counts struct {
	Requests     int // that arrived whole
	Open         int // of these, not answered yet
	Acknowledged int // answered with 2xx
	Refused      int // answered with another status
	Lost         int // reset, or the client went away
	Deliveries   int // distinct ids; without an id they count as one
	Delivered    int // distinct ids that were acknowledged
}

// Inbox receives webhooks. It is an [http.Handler].
type Inbox struct {
	cfg Config

	arrivals sync.Mutex // serialises Config.Arrived

	mu      sync.Mutex
	reply   func(Request) Reply
	ids     map[string]*delivery
	order   []string // the ids as they first came, a ring once it is full
	oldest  int
	kept    []Request // up to twice Config.Keep of the newest
	counts  Counts
	changed chan struct{} // closed and replaced at each change
}

type delivery struct {
	attempts     int
	acknowledged bool
}

// New returns an inbox.
func New(cfg Config) *Inbox {
	if cfg.Keep <= 0 {
		cfg.Keep = DefaultKeep
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	return &Inbox{cfg: cfg, reply: cfg.Reply, ids: make(map[string]*delivery), changed: make(chan struct{})}
}

// SetReply replaces the script for requests that arrive from now on.
func (b *Inbox) SetReply(reply func(Request) Reply) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reply = reply
}

// Requests returns the kept requests in the order in which they were answered.
func (b *Inbox) Requests() []Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.kept[max(0, len(b.kept)-b.cfg.Keep):])
}

// Counts returns the totals.
func (b *Inbox) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}

// Await returns nil as soon as done says so of the totals, or the error of ctx.
func (b *Inbox) Await(ctx context.Context, done func(Counts) bool) error {
	for {
		b.mu.Lock()
		counts, changed := b.counts, b.changed
		b.mu.Unlock()
		if done(counts) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; so far %+v", ctx.Err(), counts)
		}
	}
}

// update changes the state and wakes who waits.
func (b *Inbox) update(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
	close(b.changed)
	b.changed = make(chan struct{})
}

// ServeHTTP implements [http.Handler].
func (b *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, b.cfg.MaxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		http.Error(w, fmt.Sprintf("the body is longer than %d bytes", b.cfg.MaxBody), http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		return // the client is gone: nobody is there to answer
	}
	req := Request{
		ID: r.Header.Get("Webhook-Id"), Time: time.Now(),
		Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body,
	}
	script := b.admit(&req)
	var reply Reply
	if script != nil {
		reply = script(req)
	}
	if reply.Status == 0 {
		reply.Status = http.StatusNoContent
	}
	here := hold(r.Context(), reply)
	if here && !reply.Reset {
		req.Status = reply.Status
	}
	// Before the answer: whoever has seen it finds it counted, and the next
	// request of a client that waits for answers is recorded behind this one.
	b.record(req)
	if here {
		answer(w, reply)
	}
}

// admit numbers a request and returns the script for it.
func (b *Inbox) admit(req *Request) (script func(Request) Reply) {
	b.update(func() {
		d := b.ids[req.ID]
		if d == nil {
			if len(b.order) == maxIDs {
				delete(b.ids, b.order[b.oldest])
				b.order[b.oldest] = req.ID
				b.oldest = (b.oldest + 1) % maxIDs
			} else {
				b.order = append(b.order, req.ID)
			}
			d = &delivery{}
			b.ids[req.ID] = d
			b.counts.Deliveries++
		}
		d.attempts++
		b.counts.Requests++
		b.counts.Open++
		req.Number, req.Attempt = b.counts.Requests, d.attempts
		script = b.reply
	})
	return script
}

// record counts a request whose answer is decided.
func (b *Inbox) record(req Request) {
	if b.cfg.Arrived != nil {
		b.arrivals.Lock()
		defer b.arrivals.Unlock()
		b.cfg.Arrived(req)
	}
	b.update(func() {
		b.counts.Open--
		switch {
		case req.Acknowledged():
			b.counts.Acknowledged++
			// It is gone if so many others have arrived meanwhile.
			if d := b.ids[req.ID]; d != nil && !d.acknowledged {
				d.acknowledged = true
				b.counts.Delivered++
			}
		case req.Status == 0:
			b.counts.Lost++
		default:
			b.counts.Refused++
		}
		b.kept = append(b.kept, req)
		if len(b.kept) >= 2*b.cfg.Keep {
			n := copy(b.kept, b.kept[len(b.kept)-b.cfg.Keep:])
			clear(b.kept[n:])
			b.kept = b.kept[:n]
		}
	})
}

// hold waits as long as reply says, and reports whether the client is still
// there.
func hold(ctx context.Context, reply Reply) bool {
	if reply.Delay > 0 {
		timer := time.NewTimer(reply.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	if reply.Until != nil {
		select {
		case <-reply.Until:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// answer sends reply. That the client left in between is its own business: like
// any receiver, the inbox has made up its mind.
func answer(w http.ResponseWriter, reply Reply) {
	if reply.Reset {
		reset(w)
		return
	}
	maps.Copy(w.Header(), reply.Header)
	w.WriteHeader(reply.Status)
	_, _ = io.WriteString(w, reply.Body)
}

// reset closes the connection so that the client sees a reset.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // closes it without an answer, as near as it gets
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// An error means that the connection is already gone.
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
