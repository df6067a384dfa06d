package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"keyhook/checkpoint"
	"keyhook/checkpoint/disk"
)

// lose removes what is known of keys, as if their changes had been lost.
func (s *shop) lose(keys ...string) {
	s.t.Helper()
	store, err := disk.Open(disk.Config{Dir: s.dir()})
	if err != nil {
		s.t.Fatal(err)
	}
	st, err := store.Load(s.t.Context(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	c := &checkpoint.Commit{Term: st.Term, Sequence: st.Sequence + 1}
	for _, key := range keys {
		c.Mirror = append(c.Mirror, checkpoint.MirrorChange{Key: []byte(key)})
	}
	if err := store.Commit(s.t.Context(), c); err != nil {
		s.t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func TestAnAuditOfADirectoryAndOfAProcess(t *testing.T) {
	s := newShop(t)
	s.start()
	s.put("/a/x", `{"text":"one"}`)
	s.put("/a/y\"", `{"text":"two"}`)
	s.eventually("both are delivered", func() bool { return len(s.delivered("/box")) == 2 })
	s.close()

	if out, _ := s.run(0, "audit"); !strings.Contains(out, "/a/") || !strings.Contains(out, "fine") {
		t.Fatal(out)
	}
	s.lose("/a/y\"")
	out, said := s.run(1, "audit")
	if !strings.Contains(out, `/a/y"  not there  3`) || !strings.Contains(said, "1 key differ") || !strings.Contains(said, "keyhook audit --repair") {
		t.Fatalf("%s\n%s", out, said)
	}
	if _, said = s.run(1, "audit", "--repair"); !strings.Contains(said, "start `keyhook run`") {
		t.Fatal(said)
	}

	s.start()
	out, _ = s.run(1, "audit", "--output", "json")
	var reports []struct {
		Range       string
		Keys        int
		Differing   int
		Repaired    bool
		Differences []struct {
			Key   string
			Known int64
			Etcd  int64
		}
	}
	if err := json.Unmarshal([]byte(out), &reports); err != nil {
		t.Fatal(err)
	}
	differing := 0
	for _, r := range reports {
		if r.Differing > 0 {
			differing += r.Differing
			if d := r.Differences[0]; d.Key != "/a/y\"" || d.Known != 0 || d.Etcd != 3 || !r.Repaired {
				t.Fatalf("%+v", r)
			}
		}
	}
	if differing != 1 {
		t.Fatal(out)
	}
	s.eventually("it is delivered again", func() bool { return len(s.delivered("/box")) == 3 })
	s.eventually("nothing differs any more", func() bool {
		code, out, _ := keyhook("audit", "-c", s.config)
		return code == 0 && strings.Contains(out, "fine")
	})
}
