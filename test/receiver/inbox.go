package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"keyhook/test/oracle"
)

// Inbox records what arrives at one path.
type Inbox struct {
	URL string

	mu       sync.Mutex
	plan     Plan
	attempts []oracle.Attempt
	tried    map[string]int  // by id
	accepted map[string]bool // ids
	faults   []error         // requests that are no delivery at all
	changed  chan struct{}   // closed at the next change
	onAccept func(oracle.Attempt)
}

// Follow sets the plan from now on.
func (b *Inbox) Follow(p Plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plan = p
}

// OnAccept calls f, one call at a time, with each attempt that is about to be
// answered well.
func (b *Inbox) OnAccept(f func(oracle.Attempt)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onAccept = f
}

// Attempts returns what arrived so far, in order.
func (b *Inbox) Attempts() []oracle.Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.attempts)
}

// Err returns the first request that was no delivery, nil if there was none.
func (b *Inbox) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.faults) == 0 {
		return nil
	}
	return fmt.Errorf("%d requests are no delivery, the first: %w", len(b.faults), b.faults[0])
}

// Arrived returns how many attempts have arrived.
func (b *Inbox) Arrived() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.attempts)
}

// Accepted returns how many different messages were accepted.
func (b *Inbox) Accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.accepted)
}

// AwaitArrived waits until n attempts have arrived.
func (b *Inbox) AwaitArrived(ctx context.Context, n int) error {
	return b.await(ctx, func() (int, int) { return len(b.attempts), n }, "arrived")
}

// AwaitAccepted waits until n different messages were accepted.
func (b *Inbox) AwaitAccepted(ctx context.Context, n int) error {
	return b.await(ctx, func() (int, int) { return len(b.accepted), n }, "were accepted")
}

func (b *Inbox) await(ctx context.Context, count func() (int, int), what string) error {
	for {
		b.mu.Lock()
		got, want := count()
		changed := b.changed
		b.mu.Unlock()
		if got >= want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d %s at %s: %w", got, want, what, b.URL, context.Cause(ctx))
		}
	}
}

// SyntheticHeader is where a rule may say whether a change is synthetic: what a
// message says by default does not.
const SyntheticHeader = "Test-Synthetic"

func (b *Inbox) serve(w http.ResponseWriter, r *http.Request) {
	conn, ok := r.Context().Value(connKey{}).(*connection)
	if !ok {
		panic("a request without its connection")
	}
	conn.began()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		// The sender was killed or gave up in the middle: nothing arrived.
		return
	}
	attempt, err := Parse(r.Header.Get("webhook-id"), body)
	if err != nil {
		b.mu.Lock()
		b.faults = append(b.faults, err)
		b.mu.Unlock()
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	attempt.Synthetic = r.Header.Get(SyntheticHeader) == "true"
	reply, place := b.record(attempt)
	conn.dealt(b, place)
	switch reply {
	case Accept, Late:
		if reply == Late {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
		w.WriteHeader(http.StatusNoContent)
	case Unavailable:
		w.WriteHeader(http.StatusServiceUnavailable)
	case Refuse:
		w.WriteHeader(http.StatusUnprocessableEntity)
	case Hang:
		<-r.Context().Done()
	case Reset:
		if tcp, ok := conn.conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		panic(http.ErrAbortHandler)
	}
}

// record notes an attempt before it is answered, so that nothing which the
// sender does next can seem to come first.
func (b *Inbox) record(a *oracle.Attempt) (reply Reply, place int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried[a.ID]++
	reply = b.plan(a, b.tried[a.ID])
	a.Arrival = len(b.attempts) + 1
	a.OK = reply == Accept || reply == Late
	a.Answered = time.Now()
	b.attempts = append(b.attempts, *a)
	if a.OK {
		b.accepted[a.ID] = true
		if b.onAccept != nil {
			b.onAccept(*a)
		}
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return reply, len(b.attempts) - 1
}

func (b *Inbox) unread(place int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts[place].Unread = true
}

// message is the default CloudEvent of a delivery.
type message struct {
	SpecVersion string `json:"specversion"`
	ID          string `json:"id"`
	Type        string `json:"type"`
	Source      string `json:"source"`
	Time        string `json:"time"`
	Sequence    string `json:"sequence"`
	Data        struct {
		Type      oracle.Type `json:"type"`
		Key       *string     `json:"key"`
		KeyBase64 []byte      `json:"key_base64"`
		Revision  int64       `json:"revision"`
		held
		Prev *struct {
			Revision int64 `json:"revision"`
			held
		} `json:"prev"`
	} `json:"data"`
}

// held is what a key holds or held.
type held struct {
	Value       *string `json:"value"`
	ValueBase64 []byte  `json:"value_base64"`
	Created     int64   `json:"create_revision"`
	Version     int64   `json:"version"`
	Lease       string  `json:"lease"`
}

func (h held) value() oracle.Digest {
	if h.Value != nil {
		return oracle.DigestOf(*h.Value)
	}
	return oracle.DigestOf(h.ValueBase64)
}

func (h held) lease() (int64, error) {
	if h.Lease == "" {
		return 0, nil
	}
	return strconv.ParseInt(h.Lease, 16, 64)
}

// Parse reads a delivery that came under an id, and checks what its envelope
// says twice.
func Parse(id string, body []byte) (*oracle.Attempt, error) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("a body that is no CloudEvent: %w", err)
	}
	d := &m.Data
	types := map[oracle.Type]string{oracle.Put: "keyhook.etcd.put", oracle.Delete: "keyhook.etcd.delete"}
	switch {
	case id == "" || id != m.ID:
		return nil, fmt.Errorf("it came as %q, the CloudEvent's id is %q", id, m.ID)
	case m.SpecVersion != "1.0" || m.Type == "" || m.Type != types[d.Type]:
		return nil, fmt.Errorf("a CloudEvent %q of type %q about a %q", m.SpecVersion, m.Type, d.Type)
	case m.Sequence != strconv.FormatInt(d.Revision, 10):
		return nil, fmt.Errorf("sequence %q at revision %d", m.Sequence, d.Revision)
	case (d.Key == nil) == (d.KeyBase64 == nil):
		return nil, fmt.Errorf("not one of key and key_base64: %s", body)
	}
	key := string(d.KeyBase64)
	if d.Key != nil {
		key = *d.Key
	}
	a := &oracle.Attempt{ID: id, Type: d.Type, Key: key, Revision: d.Revision, Created: d.Created, Version: d.Version}
	var err error
	if a.Lease, err = d.lease(); err != nil {
		return nil, fmt.Errorf("lease %q: %w", d.Lease, err)
	}
	if d.Type == oracle.Put {
		a.Value = d.value()
	}
	if p := d.Prev; p != nil {
		lease, err := p.lease()
		if err != nil {
			return nil, fmt.Errorf("lease %q before: %w", p.Lease, err)
		}
		a.Prev = &oracle.Previous{Value: p.value(), Revision: p.Revision, Created: p.Created, Version: p.Version, Lease: lease}
	}
	return a, nil
}
