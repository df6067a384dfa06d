package inbox_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"net/http/httptest"

	"go.uber.org/goleak"

	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// post sends one webhook on a connection of its own.
func post(ctx context.Context, url, id, body string) (int, string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/in?x=1", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Webhook-Id", id)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestRecordsWhatArrives(t *testing.T) {
	var arrived []inbox.Request
	box := inboxtest.Start(t, inbox.Config{Arrived: func(r inbox.Request) { arrived = append(arrived, r) }})
	for range 2 {
		if status, _, err := post(t.Context(), box.URL(), "7-a", "hello"); err != nil || status != http.StatusNoContent {
			t.Fatalf("got %d, %v", status, err)
		}
	}
	got := box.Requests()
	if len(got) != 2 || len(arrived) != 2 {
		t.Fatalf("recorded %d, told %d", len(got), len(arrived))
	}
	second := got[1]
	if second.Number != 2 || second.Attempt != 2 || second.ID != "7-a" || string(second.Body) != "hello" ||
		second.Path != "/in?x=1" || second.Method != http.MethodPost || !second.Acknowledged() {
		t.Errorf("recorded %+v", second)
	}
	if want := (inbox.Counts{Requests: 2, Acknowledged: 2, Deliveries: 1, Delivered: 1}); box.Counts() != want {
		t.Errorf("counted %+v", box.Counts())
	}
}

func TestAnswersAsTheScriptSays(t *testing.T) {
	box := inboxtest.Start(t, inbox.Config{Reply: func(r inbox.Request) inbox.Reply {
		if r.Attempt == 1 {
			return inbox.Reply{Status: http.StatusServiceUnavailable, Body: "later", Header: http.Header{"Retry-After": {"3"}}}
		}
		return inbox.Reply{}
	}})
	if status, body, err := post(t.Context(), box.URL(), "1-a", ""); err != nil || status != 503 || body != "later" {
		t.Fatalf("got %d %q, %v", status, body, err)
	}
	if status, _, err := post(t.Context(), box.URL(), "1-a", ""); err != nil || status != 204 {
		t.Fatalf("got %d, %v", status, err)
	}
	box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Reset: true} })
	if _, _, err := post(t.Context(), box.URL(), "2-a", ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a reset is %v", err)
	}
	if want := (inbox.Counts{Requests: 3, Acknowledged: 1, Refused: 1, Lost: 1, Deliveries: 2, Delivered: 1}); box.Counts() != want {
		t.Errorf("counted %+v", box.Counts())
	}
}

func TestWaitsForWhatIsToArrive(t *testing.T) {
	open := make(chan struct{})
	box := inboxtest.Start(t, inbox.Config{Reply: func(inbox.Request) inbox.Reply { return inbox.Reply{Until: open} }})
	posted := make(chan error, 2)
	for _, id := range []string{"1-a", "2-b"} {
		go func() {
			_, _, err := post(context.Background(), box.URL(), id, "")
			posted <- err
		}()
	}
	if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Open == 2 }); err != nil {
		t.Fatal(err)
	}
	close(open)
	if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Delivered == 2 }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-posted; err != nil {
			t.Error(err)
		}
	}

	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := box.Await(over, func(inbox.Counts) bool { return false }); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Delivered:2") {
		t.Errorf("waiting in vain ends with %v", err)
	}
}

func TestAClientThatLeavesIsCounted(t *testing.T) {
	box := inboxtest.Start(t, inbox.Config{Reply: func(inbox.Request) inbox.Reply { return inbox.Reply{Delay: time.Hour} }})
	ctx, leave := context.WithCancel(t.Context())
	posted := make(chan error, 1)
	go func() {
		_, _, err := post(ctx, box.URL(), "1-a", "")
		posted <- err
	}()
	if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Open == 1 }); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := <-posted; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := box.Await(t.Context(), func(c inbox.Counts) bool { return c.Lost == 1 && c.Open == 0 }); err != nil {
		t.Fatal(err)
	}
}

func TestDelaysAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := inbox.New(inbox.Config{Reply: func(inbox.Request) inbox.Reply { return inbox.Reply{Delay: 3 * time.Second} }})
		began := time.Now()
		w := httptest.NewRecorder()
		box.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x")))
		if took := time.Since(began); took != 3*time.Second || w.Code != http.StatusNoContent {
			t.Errorf("answered %d after %v", w.Code, took)
		}
	})
}

func TestKeepsNoMoreThanItIsTold(t *testing.T) {
	box := inbox.New(inbox.Config{Keep: 3, MaxBody: 10})
	send := func(body string) int {
		w := httptest.NewRecorder()
		box.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		return w.Code
	}
	for i := range 10 {
		send(strings.Repeat("x", i))
	}
	got := box.Requests()
	if len(got) != 3 || len(got[0].Body) != 7 || len(got[2].Body) != 9 {
		t.Errorf("kept %d: %+v", len(got), got)
	}
	if status := send("eleven bytes"); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body that is too long is answered %d", status)
	}
	if c := box.Counts(); c.Requests != 10 {
		t.Errorf("counted %+v", c)
	}
}

func TestListeningTwiceIsAnError(t *testing.T) {
	box := inboxtest.Start(t, inbox.Config{})
	address := strings.TrimPrefix(box.URL(), "http://")
	if _, err := inbox.Listen(t.Context(), address, inbox.Config{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
}

func TestAnInboxThatWasNeverRunCanBeClosed(t *testing.T) {
	box, err := inbox.Listen(t.Context(), "127.0.0.1:0", inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := post(t.Context(), box.URL(), "1-a", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}
