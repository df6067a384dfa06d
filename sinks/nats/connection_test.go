package nats_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

// A server that is down, for however many attempts, is found again, and what was
// stored while its acknowledgement got lost is stored once.
func TestAServerThatComesAndGoes(t *testing.T) {
	server := natstest.Start(t, nil)
	stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
	s := newSink(t, nats.Config{URL: server.URL(), JetStream: true, Stream: "AUDIT"})
	mustSend(t, s, message(1, "audit.a", "1"))
	for i := int64(2); i <= 3; i++ {
		server.Stop()
		d := message(i, "audit.a", fmt.Sprint(i))
		for range 70 { // the client library's own patience is 60
			wantError(t, send(t.Context(), s, d), sinks.Retry)
		}
		err := send(t.Context(), s, d)
		for strings.Contains(err.Error(), "was lost") { // until the last one has been noticed
			err = send(t.Context(), s, d)
		}
		wantError(t, err, sinks.Retry, "no connection to NATS", "connection refused")
		server.Start()
		retried(t, s, d)
	}
	js, err := jetstream.New(server.Client())
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(t.Context(), "AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	if got := stored(t, st); fmt.Sprint(got) != "[1 2 3]" {
		t.Errorf("stored %q", got)
	}
}

// A break of the connection concerns what has no answer yet, and nothing else.
func TestAConnectionThatBreaksUnderASlice(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	conn := server.Client()
	arrived := make(chan string, 10)
	if _, err := conn.Subscribe("svc", func(m *natsgo.Msg) {
		if !strings.HasPrefix(string(m.Data), "mute") {
			if err := m.Respond(nil); err != nil {
				t.Error(err)
			}
		}
		arrived <- string(m.Data)
	}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	s := newSink(t, nats.Config{URL: server.URL(), Request: true})
	result := make(chan []error, 1)
	go func() {
		result <- s.Deliver(t.Context(), []*keyhook.Delivery{
			message(1, "svc", "1"), message(2, "svc", "mute 2"), message(3, "svc.*", "bad"), message(4, "svc", "4"), message(5, "svc", "mute 5"),
		})
	}()
	for range 4 {
		<-arrived
	}
	// Both replies are at the sink's server before this one, which the sink
	// answers to nobody: they are on their way in front of the break.
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := server.Kick("keyhook"); n != 1 {
		t.Fatalf("%d connections broken", n)
	}
	errs := <-result
	for _, i := range []int{1, 4} {
		wantError(t, errs[i], sinks.Retry, "the connection was lost before an acknowledgement came")
	}
	wantError(t, errs[2], sinks.Rejected, "wildcard")
	for _, i := range []int{0, 3} {
		// A reply and the break may meet in the client library.
		if errs[i] != nil {
			wantError(t, errs[i], sinks.Retry, "the connection was lost")
		}
	}
	mustSend(t, s, message(6, "svc", "6")) // at once, on another connection
}

// However often connections break, what is not acknowledged is not settled.
func TestNothingIsSettledThatDidNotArrive(t *testing.T) {
	for name, cfg := range map[string]nats.Config{"core": {}, "JetStream": {JetStream: true}} {
		t.Run(name, func(t *testing.T) {
			server := natstest.Start(t, nil)
			conn := server.Client()
			got := make(chan *natsgo.Msg, 1<<16)
			if _, err := conn.ChanSubscribe("audit.>", got); err != nil {
				t.Fatal(err)
			}
			st := stream(t, server, jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"audit.>"}})
			cfg.URL = server.URL()
			s := newSink(t, cfg)
			var mu sync.Mutex
			settled := map[string]bool{}
			var running sync.WaitGroup
			for w := range 8 {
				running.Go(func() {
					for i := range 60 {
						d := message(int64(w*1000+i), "audit.a", "x")
						for {
							err := send(t.Context(), s, d)
							if err == nil {
								break
							}
							if sinks.KindOf(err) != sinks.Retry {
								t.Errorf("%v", err)
								return
							}
						}
						mu.Lock()
						settled[d.ID] = true
						mu.Unlock()
						if w == 0 && i%6 == 0 {
							server.Kick("keyhook")
						}
					}
				})
			}
			running.Wait()
			if err := conn.Flush(); err != nil {
				t.Fatal(err)
			}
			if cfg.JetStream { // what settles is that the stream has it
				for _, id := range storedIDs(t, st) {
					delete(settled, id)
				}
			} else {
				for len(got) > 0 {
					delete(settled, (<-got).Header.Get("Nats-Msg-Id"))
				}
			}
			if len(settled) > 0 {
				t.Errorf("%d were settled and did not arrive", len(settled))
			}
		})
	}
}

// The other servers of a cluster are learned of.
func TestAnotherServerOfTheCluster(t *testing.T) {
	cluster := func(routes ...string) func(*server.Options) {
		return func(o *server.Options) {
			o.JetStream = false
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT}
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		}
	}
	first := natstest.Start(t, cluster())
	second := natstest.Start(t, cluster("nats://"+first.ClusterAddress()))
	s := newSink(t, nats.Config{URL: first.URL()})
	mustSend(t, s, message(1, "a", "x"))
	eventually(t, func() bool { return first.Routes() > 0 && second.Routes() > 0 })
	eventually(t, func() bool { return nats.Knows(s, second.Address()) }) // it is told by the side
	mustSend(t, s, message(2, "a", "x"))
	first.Stop()
	retried(t, s, message(3, "a", "x"))
	if n := second.Clients("keyhook"); n != 1 {
		t.Errorf("%d connections to the second server", n)
	}
}

func TestSeveralServers(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	s := newSink(t, nats.Config{URL: "nats://127.0.0.1:1, " + server.URL()})
	mustSend(t, s, message(1, "a", "x"))
	s = newSink(t, nats.Config{URL: "nats://127.0.0.1:1,nats://127.0.0.1:2"})
	wantError(t, send(t.Context(), s, message(1, "a", "x")), sinks.Retry, "127.0.0.1:1: ", "127.0.0.1:2: ", "connection refused")
}

// Many deliveries make one attempt to connect, and none of them needs more than
// one of the connections.
func TestDeliveriesShareAConnection(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	s := newSink(t, nats.Config{URL: server.URL()})
	var running sync.WaitGroup
	for i := range 50 {
		running.Go(func() {
			if err := send(t.Context(), s, message(int64(i), "a", "x")); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	if n := server.Connections(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

// An unanswered attempt to connect can be interrupted, and ended.
func TestAServerThatDoesNotGreet(t *testing.T) {
	s, err := nats.New(nats.Config{URL: "nats://" + mute(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("enough"))
	wantError(t, send(ctx, s, message(1, "a", "x")), sinks.Interrupted)
	result := make(chan error, 1)
	ctx, stop = context.WithCancelCause(t.Context())
	go func() { result <- send(ctx, s, message(1, "a", "x")) }()
	eventually(t, func() bool { return nats.Dialing(s) })
	stop(errors.New("enough"))
	wantError(t, <-result, sinks.Interrupted, "before the message was sent")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Connections made and lost are told, and nothing of a clean end.
func TestTheLog(t *testing.T) {
	server := natstest.Start(t, withoutJetStream)
	lines := make(chan string, 100)
	log := slog.New(slog.NewTextHandler(writer(func(line []byte) { lines <- string(line) }), nil))
	s, err := nats.New(nats.Config{URL: server.URL(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	mustSend(t, s, message(1, "a", "x"))
	server.Kick("keyhook")
	retried(t, s, message(2, "a", "x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	close(lines)
	var all []string
	for line := range lines {
		if !strings.Contains(line, "server="+server.Address()) {
			t.Errorf("no server in %s", line)
		}
		_, line, _ = strings.Cut(line, "level=")
		level, _, _ := strings.Cut(line, " ")
		all = append(all, level)
	}
	if fmt.Sprint(all) != "[INFO WARN INFO]" {
		t.Errorf("told %v", all)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
