package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyhook"
	"keyhook/internal/inbox"
	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

// The deadline spans everything; on a fake clock it is met to the nanosecond.
func TestOneDeadlineOverTheWholeExchange(t *testing.T) {
	// A server sees that its client left once it has read the request.
	never := func(r *http.Request) { <-r.Context().Done() }
	read := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			h(w, r)
		}
	}
	for name, tt := range map[string]struct {
		receiver http.HandlerFunc
		delivers bool
	}{
		"no answer": {receiver: func(_ http.ResponseWriter, r *http.Request) { never(r) }},
		"a 200 whose body never ends: the status has settled it": {delivers: true, receiver: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "so ")
			_ = http.NewResponseController(w).Flush()
			never(r)
		}},
		"a 200 that drips": {delivers: true, receiver: func(w http.ResponseWriter, r *http.Request) {
			for {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(time.Second):
					_, _ = w.Write([]byte{'.'})
					_ = http.NewResponseController(w).Flush()
				}
			}
		}},
		"a 500 whose body never ends": {receiver: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_ = http.NewResponseController(w).Flush()
			never(r)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSink(t, webhook.Config{URL: "http://127.0.0.1:1/", Timeout: 7 * time.Second})
				webhook.ServeByPipe(t, s, read(tt.receiver))
				began := time.Now()
				err := send(t.Context(), s, message("x"))
				if took := time.Since(began); took != 7*time.Second {
					t.Errorf("it took %v", took)
				}
				if tt.delivers {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantError(t, err, sinks.Retry)
			})
		})
	}
}

func TestConnectingIsPartOfTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink(t, webhook.Config{URL: "http://127.0.0.1:1/"})
		webhook.ServeByPipe(t, s, nil)
		webhook.NeverConnect(s)
		began := time.Now()
		wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "no answer within 15s")
		if took := time.Since(began); took != webhook.DefaultTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAnAnswerWithoutEndIsCutOff(t *testing.T) {
	for _, status := range []int{200, 500} {
		written := make(chan int64, 1)
		s, _ := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			n, err := io.Copy(w, zeros{})
			if err == nil {
				t.Error("it was read to an end that does not exist")
			}
			written <- n
		}), nil)
		err := send(t.Context(), s, message("x"))
		if status == 200 && err != nil {
			t.Error(err)
		}
		if status == 500 {
			wantError(t, err, sinks.Retry)
		}
		t.Logf("%d: the receiver got rid of %d bytes", status, <-written)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// raw is a receiver that answers each connection as script says.
func raw(t *testing.T, script func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				script(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		open.Wait()
	})
	return "http://" + l.Addr().String() + "/"
}

// says reads one request and writes text.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		// Closing with something unread would be a reset.
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			_, _ = io.WriteString(conn, text)
		}
	}
}

func TestAnswersThatAreNoHTTP(t *testing.T) {
	for name, tt := range map[string]struct{ answer, says string }{
		"nothing":               {"", "broke the connection"},
		"something else":        {"220 smtp.example ESMTP " + testToken + "\r\n", "malformed HTTP"},
		"a header without end":  {"HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 200_000), "exceeded"},
		"switching protocols":   {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "HTTP 101"},
		"an endless row of 1xx": {strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n\r\n", 1000), ""},
		"a status of its own":   {"HTTP/1.1 777 Lucky\r\nContent-Length: 0\r\n\r\n", "HTTP 777"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t, webhook.Config{
				URL: raw(t, says(tt.answer)), Timeout: time.Minute,
				Headers: []keyhook.Header{{Name: "X-Token", Value: testToken}},
			})
			e := wantError(t, send(t.Context(), s, message("x")), sinks.Retry, tt.says)
			if strings.Contains(e.Error(), testToken) {
				t.Errorf("%q tells the secret", e.Error())
			}
		})
	}
}

func TestAnAnswerBeforeTheBodyWasRead(t *testing.T) {
	s := newSink(t, webhook.Config{URL: raw(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		}
		_, _ = io.Copy(io.Discard, conn) // until the sink leaves
	}), Timeout: time.Minute})
	wantError(t, send(t.Context(), s, message(strings.Repeat("x", 16<<20))), sinks.Rejected, "HTTP 413", "big")
}

// The receiver reads nothing, so that the sink is stuck in the middle of the
// body when it is told to stop.
func TestAStopCutsOffABodyThatIsBeingSent(t *testing.T) {
	accepted, done := make(chan struct{}), make(chan struct{})
	s := newSink(t, webhook.Config{URL: raw(t, func(net.Conn) {
		close(accepted)
		<-done
	}), Timeout: time.Minute})
	defer close(done)
	ctx, stop := context.WithCancel(t.Context())
	d := message(strings.Repeat("x", 16<<20))
	result := make(chan error, 1)
	go func() { result <- send(ctx, s, d) }()
	<-accepted
	stop()
	wantError(t, <-result, sinks.Interrupted)
	clear(d.Message.Body)
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	const parallel, rounds = 8, 20
	var opened atomic.Int32
	box := inbox.New(inbox.Config{})
	server := httptest.NewUnstartedServer(box)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	s := newSink(t, webhook.Config{URL: server.URL, Concurrency: parallel, Timeout: time.Minute})
	for round := range rounds {
		all := make(chan struct{})
		status := []int{200, 500, 302, 410, 422}[round%5]
		box.SetReply(func(inbox.Request) inbox.Reply {
			return inbox.Reply{Status: status, Body: strings.Repeat("b", 10_000), Until: all}
		})
		var wg sync.WaitGroup
		for range parallel {
			wg.Go(func() {
				if err := send(t.Context(), s, message("x")); (err == nil) != (status == 200) {
					t.Error(err)
				}
			})
		}
		if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Open == parallel }); err != nil {
			t.Fatal(err)
		}
		close(all)
		wg.Wait()
	}
	// One more may have been dialled while another was about to be free.
	if n := opened.Load(); n > 2*parallel {
		t.Errorf("%d connections for %d requests, %d at a time", n, parallel*rounds, parallel)
	}
}

func TestTLS(t *testing.T) {
	protocol := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		protocol <- fmt.Sprint(r.Proto, " ", tls.VersionName(r.TLS.Version))
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	s := newSink(t, webhook.Config{URL: server.URL, RootCAs: roots, Timeout: time.Minute})
	if err := send(t.Context(), s, message("x")); err != nil {
		t.Fatal(err)
	}
	if got := <-protocol; got != "HTTP/1.1 TLS 1.3" {
		t.Errorf("spoken: %s", got)
	}

	s = newSink(t, webhook.Config{URL: server.URL, Timeout: time.Minute})
	wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "certificate")

	s = newSink(t, webhook.Config{URL: strings.Replace(server.URL, "https", "http", 1), Timeout: time.Minute})
	wantError(t, send(t.Context(), s, message("x")), sinks.Rejected, "HTTP 400", "HTTPS server")

	old := httptest.NewUnstartedServer(nil)
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	s = newSink(t, webhook.Config{URL: old.URL, RootCAs: roots, Timeout: time.Minute})
	wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "protocol version")
}

func TestTheEnvironmentsProxyIsNotUsed(t *testing.T) {
	if webhook.UsesProxy(newSink(t, webhook.Config{URL: "http://hooks.example.com/"})) {
		t.Error("a proxy would connect out of reach of the address check")
	}
}

func TestLargeBodies(t *testing.T) {
	box := inbox.New(inbox.Config{MaxBody: 64 << 20})
	s, _ := serve(t, box, nil)
	body := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
	if err := send(t.Context(), s, message(string(body))); err != nil {
		t.Fatal(err)
	}
	if got := box.Requests()[0].Body; !bytes.Equal(got, body) {
		t.Errorf("%d bytes arrived", len(got))
	}
}
