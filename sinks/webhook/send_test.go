package webhook_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"keyhook"
	"keyhook/internal/inbox"
	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

// serve starts a receiver and a sink for it.
func serve(t *testing.T, h http.Handler, change func(*webhook.Config)) (*webhook.Sink, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	cfg := webhook.Config{URL: server.URL + "/in", Timeout: time.Minute}
	if change != nil {
		change(&cfg)
	}
	return newSink(t, cfg), server
}

func newSink(t *testing.T, cfg webhook.Config) *webhook.Sink {
	t.Helper()
	s, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func send(ctx context.Context, s *webhook.Sink, d *keyhook.Delivery) error {
	return s.Deliver(ctx, []*keyhook.Delivery{d})[0]
}

func message(body string, headers ...keyhook.Header) *keyhook.Delivery {
	return &keyhook.Delivery{ID: "42-00112233445566778899aabbccddeeff", Message: keyhook.Message{
		ContentType: "application/json", Body: []byte(body), Headers: headers,
	}}
}

// wantError checks the kind of err and what its text says.
func wantError(t *testing.T, err error, kind sinks.Kind, texts ...string) sinks.Error {
	t.Helper()
	var e *sinks.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *sinks.Error", err)
	}
	if e.Kind != kind {
		t.Errorf("%v is of kind %s, want %s", e.Error(), e.Kind, kind)
	}
	for _, text := range texts {
		if !strings.Contains(e.Error(), text) {
			t.Errorf("%q does not say %q", e.Error(), text)
		}
	}
	return *e
}

func TestTheRequest(t *testing.T) {
	box := inbox.New(inbox.Config{})
	s, _ := serve(t, box, func(c *webhook.Config) {
		c.URL = strings.Replace(c.URL, "http://", "http://jo:s%40fe@", 1) + "?a=b%20c"
		c.Version = "v1.2.3"
		c.Headers = []keyhook.Header{
			{Name: "x-static", Value: "static"}, {Name: "X-Both", Value: "static"},
		}
	})
	d := message(`{"a":1}`, keyhook.Header{Name: "x-both", Value: "rendered"}, keyhook.Header{Name: "X-Two", Value: "1"}, keyhook.Header{Name: "x-two", Value: "2"})
	if err := send(t.Context(), s, d); err != nil {
		t.Fatal(err)
	}
	got := box.Requests()[0]
	if got.Method != http.MethodPost || got.Path != "/in?a=b%20c" || string(got.Body) != `{"a":1}` {
		t.Errorf("got %s %s %q", got.Method, got.Path, got.Body)
	}
	want := http.Header{
		"Content-Type": {"application/json"}, "Content-Length": {"7"}, "User-Agent": {"keyhook/v1.2.3"},
		"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("jo:s@fe"))},
		"X-Static":      {"static"}, "X-Both": {"rendered"}, "X-Two": {"1", "2"},
		"Webhook-Id": {d.ID}, "Webhook-Timestamp": got.Header["Webhook-Timestamp"],
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("headers\n%v, want\n%v", got.Header, want)
	}
}

func TestTheHostHeaderCanBeSet(t *testing.T) {
	host := make(chan string, 1)
	s, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host <- r.Host }), func(c *webhook.Config) {
		c.Headers = []keyhook.Header{{Name: "host", Value: "inside.example"}}
	})
	if err := send(t.Context(), s, message("x")); err != nil {
		t.Fatal(err)
	}
	if got := <-host; got != "inside.example" {
		t.Errorf("Host is %s", got)
	}
}

// The reference library, someone else's code, accepts each of the secrets.
func TestSignaturesVerify(t *testing.T) {
	old := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 24))
	fresh := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{2}, 64))
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	box := inbox.New(inbox.Config{})
	s, _ := serve(t, box, func(c *webhook.Config) {
		c.Sign = []string{old, fresh + "\n", "whsk_" + base64.StdEncoding.EncodeToString(private), "whsk_" + base64.StdEncoding.EncodeToString(private.Seed())}
	})
	for _, body := range []string{`{"a":1}`, "", "\x00\xff.binary."} {
		if err := send(t.Context(), s, message(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, got := range box.Requests() {
		for _, secret := range []string{old, fresh} {
			verifier, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := verifier.Verify(got.Body, got.Header); err != nil {
				t.Errorf("%q: %v", got.Body, err)
			}
			got.Body = append(got.Body, 'x')
			if err := verifier.Verify(got.Body, got.Header); err == nil {
				t.Error("a changed body verifies")
			}
			got.Body = got.Body[:len(got.Body)-1]
		}
		signatures := strings.Split(got.Header.Get("Webhook-Signature"), " ")
		if len(signatures) != 4 {
			t.Fatalf("signatures: %v", signatures)
		}
		for _, signature := range signatures[2:] {
			text, ok := strings.CutPrefix(signature, "v1a,")
			raw, err := base64.StdEncoding.DecodeString(text)
			signed := got.ID + "." + got.Header.Get("Webhook-Timestamp") + "." + string(got.Body)
			if !ok || err != nil || !ed25519.Verify(public, []byte(signed), raw) {
				t.Errorf("%s does not verify", signature)
			}
		}
	}
}

func TestWithoutSecretsNothingIsSigned(t *testing.T) {
	box := inbox.New(inbox.Config{})
	s, _ := serve(t, box, nil)
	if err := send(t.Context(), s, message("x")); err != nil {
		t.Fatal(err)
	}
	h := box.Requests()[0].Header
	if _, signed := h["Webhook-Signature"]; signed || h.Get("Webhook-Id") == "" || h.Get("Webhook-Timestamp") == "" {
		t.Errorf("headers: %v", h)
	}
}

func TestHeadersThatCannotBeSentAreRejected(t *testing.T) {
	s, _ := serve(t, inbox.New(inbox.Config{}), nil)
	for _, h := range []keyhook.Header{
		{Name: "X-A", Value: "a\r\nX-Evil: 1"}, {Name: "X-A", Value: "a\x00"}, {Name: "X A", Value: "a"}, {Name: "", Value: "a"},
		{Name: "webhook-id", Value: "1"}, {Name: "Content-Length", Value: "1"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "host", Value: "h"},
	} {
		e := wantError(t, send(t.Context(), s, message("x", h)), sinks.Rejected, fmt.Sprintf("%q", h.Name))
		if strings.Contains(e.Error(), "Evil") {
			t.Errorf("%v quotes the value", e.Error())
		}
	}
	d := message("x")
	d.Message.ContentType = "a\nb"
	wantError(t, send(t.Context(), s, d), sinks.Rejected, "Content-Type")
	d = message("x")
	d.ID = ""
	wantError(t, send(t.Context(), s, d), sinks.Rejected, "id")
}

func TestEveryStatus(t *testing.T) {
	box := inbox.New(inbox.Config{})
	s, _ := serve(t, box, nil)
	changed, _ := serve(t, box, func(c *webhook.Config) {
		c.RetryOn = []int{400, 410}
		c.DeadOn = []int{404, 302, 599}
	})
	rejected := map[int]bool{400: true, 405: true, 406: true, 413: true, 414: true, 415: true, 422: true, 431: true, 501: true}
	for status := 200; status <= 599; status++ {
		box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: status} })
		want := sinks.Retry
		switch {
		case rejected[status]:
			want = sinks.Rejected
		case status == 410:
			want = sinks.Hold
		case status == 429:
			want = sinks.Throttled
		}
		wantChanged := want
		switch status {
		case 400, 410:
			wantChanged = sinks.Retry
		case 404, 302, 599:
			wantChanged = sinks.Rejected
		}
		err, errChanged := send(t.Context(), s, message("x")), send(t.Context(), changed, message("x"))
		if status < 300 {
			if err != nil || errChanged != nil {
				t.Errorf("%d: %v, %v", status, err, errChanged)
			}
			continue
		}
		e := wantError(t, err, want, fmt.Sprintf("HTTP %d", status))
		wantError(t, errChanged, wantChanged)
		if e.Status != status {
			t.Errorf("%v has status %d", e.Error(), e.Status)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := false
	mux := http.NewServeMux()
	mux.HandleFunc("/in", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/there?token=from-receiver", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/there", func(http.ResponseWriter, *http.Request) { followed = true })
	s, _ := serve(t, mux, nil)
	wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "HTTP 307", "redirects are not followed")
	if followed {
		t.Error("it was followed")
	}
}

func TestRetryAfter(t *testing.T) {
	box := inbox.New(inbox.Config{})
	s, _ := serve(t, box, nil)
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, tt := range []struct {
		status      int
		value, date string
		kind        sinks.Kind
		after       time.Duration
	}{
		{503, "120", "", sinks.Throttled, 2 * time.Minute},
		{429, "1", "", sinks.Throttled, time.Second},
		{302, "5", "", sinks.Throttled, 5 * time.Second},
		{503, "0", "", sinks.Retry, 0},
		{429, "0", "", sinks.Throttled, 0},
		{503, "86400", "", sinks.Throttled, time.Hour},
		{503, "99999999999999999999999", "", sinks.Throttled, time.Hour},
		{503, "-1", "", sinks.Retry, 0},
		{503, "soon", "", sinks.Retry, 0},
		{503, "1.5", "", sinks.Retry, 0},
		{503, date(30 * time.Hour), "", sinks.Throttled, time.Hour},
		{503, date(-time.Hour), "", sinks.Retry, 0},
		// Clocks that disagree: what counts is the difference to the Date.
		{503, "Mon, 02 Jan 2006 15:05:05 GMT", "Mon, 02 Jan 2006 15:04:05 GMT", sinks.Throttled, time.Minute},
		{400, "120", "", sinks.Rejected, 0},
		{410, "120", "", sinks.Hold, 0},
	} {
		h := http.Header{"Retry-After": {tt.value}}
		if tt.date != "" {
			h.Set("Date", tt.date)
		}
		box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: tt.status, Header: h} })
		e := wantError(t, send(t.Context(), s, message("x")), tt.kind)
		if e.RetryAfter != tt.after {
			t.Errorf("%d with Retry-After %q: %v, want %v", tt.status, tt.value, e.RetryAfter, tt.after)
		}
	}
}

func TestWhatTheReceiverSaysIsQuotedOnOneLine(t *testing.T) {
	box := inbox.New(inbox.Config{Reply: func(inbox.Request) inbox.Reply {
		return inbox.Reply{Status: 500, Body: "no such\r\n\tteam\x1b[31m \xff\u202e" + strings.Repeat("x", 10000)}
	}})
	s, _ := serve(t, box, nil)
	e := wantError(t, send(t.Context(), s, message("x")), sinks.Retry, "HTTP 500 Internal Server Error: no such team [31m ")
	if n := len(e.Error()); n > 400 || strings.ContainsAny(e.Error(), "\x1b\u202e\n") {
		t.Errorf("%d bytes: %q", n, e.Error())
	}

	box.SetReply(func(inbox.Request) inbox.Reply {
		return inbox.Reply{Status: 500, Header: http.Header{"Content-Encoding": {"br"}}, Body: "garbage"}
	})
	e = wantError(t, send(t.Context(), s, message("x")), sinks.Retry)
	if strings.Contains(e.Error(), "garbage") {
		t.Errorf("%q quotes what is encoded", e.Error())
	}
}

// The timestamp is of the attempt, not of the delivery.
func TestEachAttemptHasItsOwnTimestamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := inbox.New(inbox.Config{})
		s := newSink(t, webhook.Config{URL: "http://127.0.0.1:1/"})
		webhook.ServeByPipe(t, s, box)
		began := time.Now().Unix()
		for i, wait := range []time.Duration{0, 90 * time.Second} {
			<-time.After(wait)
			if err := send(t.Context(), s, message("x")); err != nil {
				t.Fatal(err)
			}
			want := strconv.FormatInt(began+int64(wait.Seconds()), 10)
			if got := box.Requests()[i].Header.Get("Webhook-Timestamp"); got != want {
				t.Errorf("attempt %d says %s, want %s", i, got, want)
			}
		}
	})
}
