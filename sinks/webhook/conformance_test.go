package webhook_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"keyhook"
	"keyhook/internal/inbox"
	"keyhook/sinks/sinktest"
	"keyhook/sinks/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testToken  = "tok-4f9a1c77"
	testUser   = "keyhook-user"
	testPass   = "p&ss<wörd>\"1"
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{Open: open})
}

func open(t *testing.T, opts sinktest.Options) *sinktest.Rig {
	t.Helper()
	r := &receiver{box: inbox.New(inbox.Config{})}
	r.server = httptest.NewServer(r.box)
	base := strings.Replace(r.server.URL, "http://", "http://"+testUser+":p%26ss%3Cw%C3%B6rd%3E%221@", 1)
	sink, err := webhook.New(webhook.Config{
		URL:         base + "/services/T0AB12CD3/path-secret?token=query-secret&x=1",
		Headers:     []keyhook.Header{{Name: "X-Token", Value: "Token " + testToken}},
		Sign:        []string{testSecret},
		Timeout:     opts.Timeout,
		Concurrency: opts.Concurrency,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &sinktest.Rig{Sink: sink, Receiver: r, Secrets: []string{
		testToken, testPass, "w%C3%B6rd", strings.TrimPrefix(testSecret, "whsec_"),
		"path-secret", "T0AB12CD3", "query-secret",
	}}
}

// receiver is an inbox that tells all it knows when it refuses something.
type receiver struct {
	box    *inbox.Inbox
	server *httptest.Server
	once   sync.Once
}

func (r *receiver) Answer(fn func(sinktest.Arrival) sinktest.Answer) {
	r.box.SetReply(func(req inbox.Request) inbox.Reply {
		a := fn(sinktest.Arrival{ID: req.ID, Body: req.Body})
		reply := inbox.Reply{Until: a.Until, Header: http.Header{}}
		switch a.Verb {
		case sinktest.Accept:
		case sinktest.Fail:
			reply.Status = http.StatusInternalServerError
		case sinktest.Reject:
			reply.Status = http.StatusUnprocessableEntity
		case sinktest.Throttle:
			reply.Status = http.StatusTooManyRequests
			reply.Header.Set("Retry-After", strconv.Itoa(int(a.After.Seconds())))
		case sinktest.Hold:
			reply.Status = http.StatusGone
		case sinktest.Break:
			reply.Reset = true
		case sinktest.Silence:
			reply.Until = make(chan struct{})
		}
		if a.Verb != sinktest.Accept {
			var b strings.Builder
			for _, s := range []string{testSecret, testPass, req.Path, testToken, "user=" + testUser} {
				b.WriteString("you sent " + s + " \n")
			}
			if err := req.Header.Write(&b); err != nil {
				panic(err)
			}
			reply.Body = b.String()
		}
		return reply
	})
}

func (r *receiver) Arrivals() []sinktest.Arrival {
	var got []sinktest.Arrival
	for _, req := range r.box.Requests() {
		got = append(got, sinktest.Arrival{ID: req.ID, Body: req.Body})
	}
	return got
}

func (r *receiver) Await(ctx context.Context, n int) error {
	return r.box.Await(ctx, func(c inbox.Counts) bool { return c.Requests >= n })
}

func (r *receiver) Close() {
	r.once.Do(func() {
		r.server.CloseClientConnections()
		r.server.Close()
	})
}
