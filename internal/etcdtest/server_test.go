package etcdtest

import (
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func put(t *testing.T, s *Server, key, value string) int64 {
	t.Helper()
	resp, err := s.Client().Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func get(t *testing.T, s *Server, key string) string {
	t.Helper()
	resp, err := s.Client().Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func TestDataSurvivesARestart(t *testing.T) {
	s := Start(t)
	first := put(t, s, "a", "1")
	watch := s.Client().Watch(t.Context(), "a") // an open watch must not delay the stop
	s.Restart()
	if v := get(t, s, "a"); v != "1" {
		t.Fatalf("a is %q after a restart", v)
	}
	if second := put(t, s, "a", "2"); second != first+1 {
		t.Fatalf("revision %d follows %d", second, first)
	}
	if ev := <-watch; ev.Err() != nil {
		t.Fatal(ev.Err())
	}
}

func TestRestoringRollsHistoryBackInTheSameCluster(t *testing.T) {
	s := Start(t)
	put(t, s, "a", "1")
	saved := s.Save()
	put(t, s, "a", "2")
	before, err := s.Client().Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	s.Restore(saved)
	after, err := s.Client().Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if string(after.Kvs[0].Value) != "1" || after.Header.Revision != before.Header.Revision-1 {
		t.Fatalf("a is %q at revision %d", after.Kvs[0].Value, after.Header.Revision)
	}
	if after.Header.ClusterId != before.Header.ClusterId {
		t.Fatal("the cluster id has changed")
	}
}

func TestWipingBeginsAnotherHistoryInTheSameCluster(t *testing.T) {
	s := Start(t)
	put(t, s, "a", "1")
	before, err := s.Client().Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	after, err := s.Client().Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Kvs) != 0 || after.Header.Revision != 1 || after.Header.ClusterId != before.Header.ClusterId {
		t.Fatalf("after: %v", after)
	}
}

func TestUsersMayReadTheirRangesOnly(t *testing.T) {
	s := Start(t, WithAuth("secret"))
	s.AddUser("reader", "word", [2]string{"/a/", "/a0"})
	put(t, s, "/a/1", "1")
	c := s.ClientAs("reader", "word")
	if _, err := c.Get(t.Context(), "/a/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "/b/1"); err == nil || err.Error() != rpctypes.ErrPermissionDenied.Error() {
		t.Fatalf("reading another key gives %v", err)
	}
}

func TestTLSNeedsAClientCertificate(t *testing.T) {
	s := Start(t, WithTLS())
	put(t, s, "a", "1")
	s.TLS().RotateClient()
	if v := get(t, s, "a"); v != "1" {
		t.Fatalf("a is %q", v)
	}
}

func TestClientsConnectAgainAfterACut(t *testing.T) {
	s := Start(t)
	c := s.Client()
	if _, err := c.Put(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	s.Disconnect()
	if resp, err := c.Get(t.Context(), "a"); err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
}
