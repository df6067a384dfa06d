package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"keyhook/checkpoint/checkpointtest"
	"keyhook/internal/etcdtest"
)

// poll looks until done.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout, tick := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer timeout.Stop()
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// The tokens of this etcd expire after a second, whatever is done with them.
func TestATokenThatExpiresIsReplacedForEveryWatch(t *testing.T) {
	key := filepath.Join(t.TempDir(), "jwt.key")
	if err := os.WriteFile(key, []byte("a secret of the server"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, etcdtest.WithConfig(func(c *embed.Config) {
		c.AuthToken = "jwt,priv-key=" + key + ",sign-method=HS256,ttl=1s"
	}), etcdtest.WithAuth("secret"))
	f.AddUser("hook", "word", [2]string{"/a/", "/a0"}, [2]string{"/b/", "/b0"})
	client := f.ClientAs("hook", "word")
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(client, l, prefix("/a/"), prefix("/b/")))
	r.awaitReady()
	for round := range 2 {
		raw := etcdserverpb.NewAuthClient(f.Client().ActiveConnection())
		token, err := raw.Authenticate(t.Context(), &etcdserverpb.AuthenticateRequest{Name: "hook", Password: "word"})
		if err != nil {
			t.Fatal(err)
		}
		mine := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, token.GetToken())
		anybody, err := clientv3.New(clientv3.Config{Endpoints: f.Endpoints(), Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		poll(t, "the token has expired", func() bool {
			_, err := etcdserverpb.NewKVClient(anybody.ActiveConnection()).Range(mine, &etcdserverpb.RangeRequest{Key: []byte("/a/k")})
			return err != nil && strings.Contains(err.Error(), "invalid auth token")
		})
		if err := anybody.Close(); err != nil {
			t.Log(err) // the end of its own context
		}
		f.Disconnect()
		f.reconnect()
		f.put("/a/k", fmt.Sprint(round))
		f.put("/b/k", fmt.Sprint(round))
		l.wait(t, 2*(round+1))
	}
	r.awaitReady()
}

func TestAPermissionThatIsTakenAndGivenAgainLosesNothing(t *testing.T) {
	f := newFixture(t, etcdtest.WithAuth("secret"))
	f.AddUser("hook", "word", [2]string{"/a/", "/a0"})
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.ClientAs("hook", "word"), l, prefix("/a/")))
	r.awaitReady()
	f.put("/a/k", "1")
	l.wait(t, 1)
	if _, err := f.kv.RoleRevokePermission(t.Context(), "hook", "/a/", "/a0"); err != nil {
		t.Fatal(err)
	}
	f.Disconnect() // a running watch is not asked again
	f.reconnect()
	if e := r.awaitError(PermissionDenied); e.Halts() || e.Hint == "" {
		t.Fatal(e)
	}
	f.put("/a/k", "2")
	f.put("/a/l", "1")
	f.del("/a/k")
	if _, err := f.kv.RoleGrantPermission(t.Context(), "hook", "/a/", "/a0", clientv3.PermissionType(clientv3.PermRead)); err != nil {
		t.Fatal(err)
	}
	events := l.wait(t, 4)
	if len(events) != 4 || events[3].Type.String() != "DELETE" || string(events[3].Prev.Value) != "2" {
		t.Fatal(brief(events))
	}
	r.awaitReady()
	if len(l.repaired()) > 0 {
		t.Fatal("a gap")
	}
}

// The authority, too: an etcd that is given new certificates needs no restart of
// keyhook.
func TestTLSAndRotatedFiles(t *testing.T) {
	f := newFixture(t, etcdtest.WithTLS())
	files := f.TLS()
	c, err := Connect(t.Context(), ClientConfig{
		Endpoints: f.Endpoints(), TLS: &TLSFiles{CAFile: files.CAFile, CertFile: files.CertFile, KeyFile: files.KeyFile},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(c, l, prefix("/a/")))
	r.awaitReady()
	if err := os.WriteFile(files.CAFile, []byte("half written"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Disconnect() // the next connections are made with what could be read last
	f.put("/a/k", "0")
	l.wait(t, 1)
	f.Stop()
	if e := r.awaitError(Unreachable); e.Halts() {
		t.Error(e)
	}
	files.RotateAll()
	f.Start()
	f.kv = f.Client()
	f.put("/a/k", "1")
	l.wait(t, 2)
	r.awaitReady()
}
