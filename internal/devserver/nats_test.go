//go:build !nodev

package devserver

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestNATSServesStreamsAndLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())

	server, err := StartNATS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(server.URL(), "nats://"))
	if err != nil || !net.ParseIP(host).IsLoopback() {
		t.Errorf("it listens on %s, %v", server.URL(), err)
	}
	client, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}}); err != nil {
		t.Errorf("make a stream: %v", err)
	}
	if ack, err := js.Publish(t.Context(), "a", []byte("1")); err != nil || ack.Sequence != 1 {
		t.Errorf("publish: %+v, %v", ack, err)
	}
	client.Close()
	if err := server.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestNATSThatCannotStartLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StartNATS(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	if _, err := StartNATS(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a missing directory", err)
	}
}
