package receiver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"keyhook/test/oracle"
)

func event(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"type":"keyhook.etcd.put","sequence":"7",
		"data":{"type":"PUT","key":"a","value":"v","revision":7,"create_revision":2,"version":3,"lease":"ff",
		"prev":{"value_base64":"/w==","revision":6,"create_revision":2,"version":2}}}`, id)
}

func post(ctx context.Context, t *testing.T, client *http.Client, url, id, body string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", id)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestAnInboxRecordsAndFailsAsTold(t *testing.T) {
	server := Start(t)
	box := server.Inbox("in")
	box.Follow(func(a *oracle.Attempt, nth int) Reply {
		switch {
		case a.ID == "hang":
			return Hang
		case a.ID == "reset":
			return Reset
		case nth == 1:
			return Unavailable
		}
		return Accept
	})
	client := &http.Client{Transport: &http.Transport{}}

	if status, err := post(t.Context(), t, client, box.URL, "x", event("x")); status != 503 || err != nil {
		t.Errorf("the first attempt: %d, %v", status, err)
	}
	if status, err := post(t.Context(), t, client, box.URL, "x", event("x")); status != 204 || err != nil {
		t.Errorf("the second attempt: %d, %v", status, err)
	}
	if _, err := post(t.Context(), t, client, box.URL, "reset", event("reset")); err == nil {
		t.Error("no error although the connection was reset")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	arrived := make(chan error, 1)
	go func() {
		arrived <- box.AwaitArrived(ctx, 4)
		cancel()
	}()
	if _, err := post(ctx, t, client, box.URL, "hang", event("hang")); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that hangs: %v", err)
	}
	if err := <-arrived; err != nil {
		t.Error(err)
	}
	if n := box.Accepted(); n != 1 {
		t.Errorf("%d accepted", n)
	}

	client.CloseIdleConnections()
	if err := server.AwaitHangup(t.Context()); err != nil {
		t.Error(err)
	}
	attempts := box.Attempts()
	for i, want := range []bool{false, true, false, false} {
		if attempts[i].OK != want || attempts[i].Arrival != i+1 {
			t.Errorf("attempt %d: %+v", i, attempts[i])
		}
	}
	got := attempts[1]
	got.Answered = time.Time{}
	if p := got.Prev; p == nil || *p != (oracle.Previous{Value: oracle.DigestOf("\xff"), Revision: 6, Created: 2, Version: 2}) {
		t.Errorf("before: %+v", p)
	}
	got.Prev = nil
	want := oracle.Attempt{
		Arrival: 2, ID: "x", Type: oracle.Put, Key: "a", Revision: 7, Value: oracle.DigestOf("v"),
		Created: 2, Version: 3, Lease: 255, OK: true, Unread: got.Unread,
	}
	if got != want {
		t.Errorf("got %+v", got)
	}
	if err := box.Err(); err != nil {
		t.Error(err)
	}
}

// The answer to the last request before a connection ends may have been lost.
func TestTheLastAnswerOfAConnectionMayBeUnread(t *testing.T) {
	server := Start(t)
	box := server.Inbox("in")
	address, path, _ := strings.Cut(strings.TrimPrefix(box.URL, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	for _, id := range []string{"read", "unread"} {
		body := event(id)
		fmt.Fprintf(conn, "POST /%s HTTP/1.1\r\nHost: x\r\nwebhook-id: %s\r\nContent-Length: %d\r\n\r\n%s", path, id, len(body), body)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("%+v, %v", resp, err)
		}
		_ = resp.Body.Close() // has nothing
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.AwaitHangup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if as := box.Attempts(); as[0].Unread || !as[1].Unread {
		t.Errorf("unread: %t, %t", as[0].Unread, as[1].Unread)
	}
}

func TestWhatIsNoDeliveryIsNotOverlooked(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":         "hello",
		"another id":      event("other"),
		"another type":    strings.Replace(event("x"), "etcd.put", "etcd.delete", 1),
		"no key":          strings.Replace(event("x"), `"key":"a",`, "", 1),
		"a wrong lease":   strings.Replace(event("x"), `"ff"`, `"zz"`, 1),
		"a wrong order":   strings.Replace(event("x"), `"sequence":"7"`, `"sequence":"8"`, 1),
		"another version": strings.Replace(event("x"), `"1.0"`, `"0.3"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			box := Start(t).Inbox("in")
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			if status, err := post(t.Context(), t, client, box.URL, "x", body); status != 500 || err != nil {
				t.Errorf("%d, %v", status, err)
			}
			if box.Err() == nil || box.Arrived() != 0 {
				t.Errorf("%d arrived, error %v", box.Arrived(), box.Err())
			}
		})
	}
}

func TestFailingIsDrawnFromTheSeed(t *testing.T) {
	const n = 3000
	draw := func(seed uint64) (replies [Reset + 1]int, story string) {
		plan := Failing(seed, 0.2)
		for i := range n {
			r := plan(&oracle.Attempt{ID: fmt.Sprint(i)}, 1)
			replies[r]++
			story += fmt.Sprint(r)
		}
		return replies, story
	}
	replies, one := draw(1)
	for _, r := range []Reply{Unavailable, Hang, Reset} {
		if replies[r] < n/5/3/2 || replies[r] > n/5/3*2 {
			t.Errorf("reply %d: %d of %d", r, replies[r], n)
		}
	}
	if _, again := draw(1); again != one {
		t.Error("the same seed tells another story")
	}
	if _, other := draw(2); other == one {
		t.Error("another seed tells the same story")
	}
}
