package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

// A flush is an acknowledgement of the server, listeners or not.
func TestCoreDeliversInOrder(t *testing.T) {
	server := natstest.Start(t, nil)
	conn := server.Client()
	s := newSink(t, nats.Config{URL: server.URL(), MaxPending: 3})
	mustSend(t, s, message(1, "nobody.listens", "x"))
	got := listen(t, conn, "core.>")
	var ds []*keyhook.Delivery
	for i := range 100 {
		ds = append(ds, message(int64(i), "core.a", fmt.Sprint(i)))
	}
	for _, err := range s.Deliver(t.Context(), ds) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range ds {
		if m := next(t, got); string(m.Data) != fmt.Sprint(i) || m.Header.Get("Nats-Msg-Id") != d.ID {
			t.Fatalf("%q of %s arrives as number %d", m.Data, m.Header.Get("Nats-Msg-Id"), i)
		}
	}
	nothing(t, conn, got)
}

// A server says what it does not allow, and answers the flush all the same.
func TestCoreDoesNotSettleWhatIsDenied(t *testing.T) {
	srv := natstest.Start(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: testUser, Password: testPassword, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"open.>"}},
		}}}
	})
	s := newSink(t, nats.Config{URL: srv.URL(), User: testUser, Password: testPassword})
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for j := range 20 {
				ds := []*keyhook.Delivery{message(1, "open.a", "x"), message(2, fmt.Sprintf("closed.ü%d.%d", i, j), "x"), message(3, "open.b", "x")}
				errs := s.Deliver(t.Context(), ds)
				if errs[0] != nil || errs[2] != nil {
					t.Errorf("what is allowed: %v, %v", errs[0], errs[2])
				}
				if errs[1] == nil || sinks.KindOf(errs[1]) != sinks.Retry || !strings.Contains(errs[1].Error(), "does not allow this user to publish") {
					t.Errorf("what is denied: %v", errs[1])
				}
			}
		})
	}
	running.Wait()
	if n := srv.Clients("keyhook"); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAMessageOverTheServersLimitIsRejected(t *testing.T) {
	srv := natstest.Start(t, func(o *server.Options) { o.MaxPayload = 1000 })
	for name, cfg := range map[string]nats.Config{"core": {}, "JetStream": {JetStream: true}, "request": {Request: true}} {
		t.Run(name, func(t *testing.T) {
			cfg.URL = srv.URL()
			s := newSink(t, cfg)
			ds := []*keyhook.Delivery{message(1, "size.a", strings.Repeat("x", 1001)), message(2, "size.a", strings.Repeat("x", 1000))}
			for _, err := range s.Deliver(t.Context(), ds) {
				wantError(t, err, sinks.Rejected, "too large", "takes 1000 (max_payload)")
			}
			if n := srv.Clients("keyhook"); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// A server that stops to read must not hold those up who stop.
func TestAStalledServerIsNoReasonToHang(t *testing.T) {
	for name, cfg := range map[string]nats.Config{"core": {}, "JetStream": {JetStream: true}} {
		t.Run(name, func(t *testing.T) {
			cfg.URL, cfg.Timeout = "nats://"+stalled(t), time.Hour
			s := newSink(t, cfg)
			var ds []*keyhook.Delivery
			for i := range 16 {
				ds = append(ds, message(int64(i), "stall.a", strings.Repeat("x", 1<<20)))
			}
			ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer stop()
			result := make(chan []error, 1)
			go func() { result <- s.Deliver(ctx, ds) }()
			select {
			case errs := <-result:
				for _, err := range errs {
					wantError(t, err, sinks.Interrupted)
				}
			case <-time.After(patience):
				t.Fatal("Deliver does not return")
			}
		})
	}
}

// stalled returns the address of a server that greets, and then reads no more.
func stalled(t *testing.T) string { return serve(t, greet) }

// mute returns the address of a server that says nothing.
func mute(t *testing.T) string { return serve(t, func(net.Conn) {}) }

// serve runs a server until the test ends, which welcomes each connection and
// then neither reads nor writes.
func serve(t *testing.T, welcome func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				welcome(conn)
				<-over
			})
		}
	})
	t.Cleanup(func() {
		close(over)
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// greet answers two pings: that of the client, and that of the sink where it
// expects answers. Errors are the client's to find.
func greet(conn net.Conn) {
	_, _ = fmt.Fprint(conn, "INFO {\"server_id\":\"X\",\"version\":\"2.15.2\",\"proto\":1,\"headers\":true,\"max_payload\":8388608}\r\n")
	lines := bufio.NewScanner(conn)
	for pings := 0; pings < 2 && lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PING":
			_, _ = fmt.Fprint(conn, "PONG\r\n")
			pings++
		case strings.HasPrefix(line, "HPUB"):
			return
		}
	}
}

// Without headers there are no ids, so nothing is sent.
func TestAServerWithoutHeaders(t *testing.T) {
	srv := natstest.Start(t, func(o *server.Options) { o.NoHeaderSupport = true })
	s := newSink(t, nats.Config{URL: srv.URL()})
	wantError(t, send(t.Context(), s, message(1, "a", "x")), sinks.Retry, "NATS 2.2")
}
