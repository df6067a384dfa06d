package oracle

import (
	"encoding/binary"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// database writes records as etcd does.
func database(t *testing.T, bucket string, records map[string]*mvccpb.KeyValue) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(bucket))
		if err != nil {
			return err
		}
		for k, kv := range records {
			v, err := proto.Marshal(kv)
			if err != nil {
				return err
			}
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func at(revision, sub uint64, mark string) string {
	k := binary.BigEndian.AppendUint64(nil, revision)
	return string(binary.BigEndian.AppendUint64(append(k, '_'), sub)) + mark
}

func TestReadHistory(t *testing.T) {
	h, err := ReadHistory(database(t, "key", map[string]*mvccpb.KeyValue{
		at(300, 1, "t"): {Key: []byte("b")},
		at(2, 0, ""):    {Key: []byte("a"), Value: []byte("1"), CreateRevision: 2, ModRevision: 2, Version: 1},
		at(300, 0, ""):  {Key: []byte("b"), Value: []byte("2"), CreateRevision: 300, ModRevision: 300, Version: 1, Lease: 5},
		at(301, 0, ""):  {Key: []byte("a"), Value: []byte("3"), CreateRevision: 2, ModRevision: 301, Version: 2},
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range h {
		line := c.String()
		if c.Prev != nil {
			line += ", before " + c.Prev.String()
		}
		got = append(got, line)
	}
	want := []string{
		`PUT "a" at 2/0`,
		`PUT "b" at 300/0`,
		`DELETE "b" at 300/1, before PUT "b" at 300/0`,
		`PUT "a" at 301/0, before PUT "a" at 2/0`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if c := h[1]; c.Value != DigestOf("2") || c.Created != 300 || c.Version != 1 || c.Lease != 5 {
		t.Errorf("%+v", c)
	}
	if h.Revision() != 301 {
		t.Errorf("last revision %d", h.Revision())
	}
	if n := len(h.After(299)); n != 3 {
		t.Errorf("%d changes after 299", n)
	}
	if n := len(h.Under(func(key string) bool { return key == "b" })); n != 2 {
		t.Errorf("%d changes of b", n)
	}
}

func TestJoinFillsWhatACompactionTook(t *testing.T) {
	whole := story()
	later := append(History{}, whole[4:]...) // what is left after a compaction
	joined := Join(whole[:5], later)
	if len(joined) != len(whole) {
		t.Fatalf("%d changes, want %d", len(joined), len(whole))
	}
	for i, c := range joined {
		if c.Prev != whole[i].Prev || c.Revision != whole[i].Revision {
			t.Errorf("%v has %v before it, want %v before %v", c, c.Prev, whole[i].Prev, whole[i])
		}
	}
}

func TestWhatIsNotEtcdsIsAnError(t *testing.T) {
	for name, path := range map[string]string{
		"no bucket": database(t, "other", nil),
		"no key":    database(t, "key", map[string]*mvccpb.KeyValue{"short": {}}),
		"no file":   filepath.Join(t.TempDir(), "none", "db"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadHistory(path); err == nil {
				t.Error("no error")
			}
		})
	}
}
