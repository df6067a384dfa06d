package keyhook_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"keyhook"
)

// The test vectors of docs/architecture.md are held against the code: ids must
// never change, or a crash during an upgrade would deliver twice.
func TestDeliveryIDVectors(t *testing.T) {
	doc, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]*)` \\| (\\d+) \\| `([^`]*)` \\| (\\d+) \\| (-?\\d+) \\| `([^`]*)` \\| `([^`]*)` \\| `([^`]*)` \\|$")
	rows := row.FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 5 {
		t.Fatalf("%d test vectors in docs/architecture.md", len(rows))
	}
	for _, r := range rows {
		key, err := strconv.Unquote(`"` + r[3] + `"`)
		if err != nil {
			t.Fatal(err)
		}
		e := &keyhook.Event{Key: []byte(key), Revision: number(t, r[4]), Occurrence: int(number(t, r[5]))}
		epoch := uint64(number(t, r[2]))
		if got := keyhook.DeliveryID(r[1], epoch, e, r[6], r[7]); got != r[8] {
			t.Errorf("%s: got %s, the docs say %s", r[0], got, r[8])
		}
	}
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Standard Webhooks signs "id.timestamp.body": an id with a dot would be
// ambiguous, whatever the key and the names are.
func TestAnIDHoldsNoDot(t *testing.T) {
	e := &keyhook.Event{Key: []byte("a.b/c d\n\x00"), Revision: 1 << 62}
	id := keyhook.DeliveryID("/etcd/prod.eu", 1, e, "rule.one", "send.two")
	if strings.Trim(id, "0123456789abcdef-") != "" {
		t.Fatalf("unexpected bytes in %q", id)
	}
}
