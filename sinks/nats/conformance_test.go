package nats_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"keyhook/internal/natstest"
	"keyhook/sinks/nats"
	"keyhook/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser     = "keyhook"
	testPassword = "p&ss<wörd>\"1"
)

// A request is answered by an application; a message for JetStream here by one
// that answers as a stream would, because a stream cannot be told how to answer.
// Real streams are in jetstream_test.go.
func TestConformance(t *testing.T) {
	cannot := []sinktest.Verb{sinktest.Throttle, sinktest.Hold}
	t.Run("JetStream", func(t *testing.T) {
		sinktest.Run(t, sinktest.Harness{Open: open(true), Cannot: cannot, OneConnection: true})
	})
	t.Run("request", func(t *testing.T) {
		sinktest.Run(t, sinktest.Harness{Open: open(false), Cannot: append(cannot, sinktest.Reject), OneConnection: true})
	})
}

func open(jetStream bool) func(*testing.T, sinktest.Options) *sinktest.Rig {
	return func(t *testing.T, opts sinktest.Options) *sinktest.Rig {
		t.Helper()
		r := &receiver{jetStream: jetStream, changed: make(chan struct{}), closed: make(chan struct{})}
		r.server = natstest.Start(t, func(o *server.Options) {
			o.Username, o.Password, o.JetStream = testUser, testPassword, false
		})
		r.conn = r.server.Client(natsgo.UserInfo(testUser, testPassword), natsgo.NoReconnect())
		if _, err := r.conn.Subscribe("test.>", r.receive); err != nil {
			t.Fatal(err)
		}
		if err := r.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		sink, err := nats.New(nats.Config{
			URL: r.server.URL(), User: testUser, Password: testPassword,
			JetStream: jetStream, Request: !jetStream, Timeout: opts.Timeout,
		})
		if err != nil {
			t.Fatal(err)
		}
		return &sinktest.Rig{Sink: sink, Receiver: r, Secrets: []string{testPassword, "p%26ss"}}
	}
}

// receiver answers messages.
type receiver struct {
	jetStream bool
	server    *natstest.Server
	conn      *natsgo.Conn
	once      sync.Once
	running   sync.WaitGroup

	mu       sync.Mutex
	answer   func(sinktest.Arrival) sinktest.Answer
	arrivals []sinktest.Arrival
	changed  chan struct{}
	closed   chan struct{}
}

func (r *receiver) Answer(fn func(sinktest.Arrival) sinktest.Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = fn
}

func (r *receiver) receive(m *natsgo.Msg) {
	a := sinktest.Arrival{ID: m.Header.Get("Nats-Msg-Id"), Body: bytes.Clone(m.Data)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, a)
	close(r.changed)
	r.changed = make(chan struct{})
	fn := r.answer
	r.running.Go(func() {
		var answer sinktest.Answer
		if fn != nil {
			answer = fn(a)
		}
		if answer.Until != nil {
			select {
			case <-answer.Until:
			case <-r.closed:
				return
			}
		}
		r.respond(m, answer.Verb)
	})
}

// respond tells all it knows when it refuses something.
func (r *receiver) respond(m *natsgo.Msg, verb sinktest.Verb) {
	all := fmt.Sprintf("you are %s with %s, which is %q", testUser, testPassword, "p%26ss%3Cw%C3%B6rd%3E%221")
	reply := natsgo.NewMsg(m.Reply)
	switch verb {
	case sinktest.Accept:
		if r.jetStream {
			reply.Data = []byte(`{"stream":"TEST","seq":1}`)
		}
	case sinktest.Fail, sinktest.Reject:
		code := map[sinktest.Verb]string{sinktest.Fail: `503,"err_code":10077`, sinktest.Reject: `400,"err_code":10054`}[verb]
		if r.jetStream {
			reply.Data = fmt.Appendf(nil, `{"error":{"code":%s,"description":%q}}`, code, all)
		} else {
			reply.Header.Set("Nats-Service-Error-Code", "500")
			reply.Header.Set("Nats-Service-Error", all)
		}
	case sinktest.Break:
		r.server.Kick("keyhook")
		return
	default:
		return
	}
	// An error means that nobody listens any more.
	_ = m.RespondMsg(reply)
}

func (r *receiver) Arrivals() []sinktest.Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]sinktest.Arrival(nil), r.arrivals...)
}

func (r *receiver) Await(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		got, changed := len(r.arrivals), r.changed
		r.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *receiver) Close() {
	r.once.Do(func() {
		close(r.closed)
		r.conn.Close()
		r.running.Wait()
		r.server.Stop()
	})
}
