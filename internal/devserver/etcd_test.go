//go:build !nodev

package devserver

import (
	"errors"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEtcdServesAndLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())

	etcd, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/a", "1"); err != nil {
		t.Errorf("put: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("close the client: %v", err)
	}
	if err := etcd.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestEtcdThatCannotStartLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	if _, err := Start(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a missing directory", err)
	}
}
