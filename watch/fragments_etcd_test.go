package watch

import (
	"fmt"
	"strings"
	"testing"

	"keyhook/checkpoint/checkpointtest"
)

// While a watcher catches up, etcd puts a thousand revisions into one response.
func TestAResponseTooLargeToBeReceivedWholeComesInFragments(t *testing.T) {
	f := newFixture(t)
	first := f.put("k/0", "")
	value := strings.Repeat("x", 1<<20)
	for i := range maxWhole>>20 + 4 {
		f.put(fmt.Sprintf("k/%d", i%3), value)
	}
	l := newLedger(checkpointtest.NewMemory())
	r := begin(t, l, config(f.kv, l, prefix("k/")), func(c *Config) { c.Start = FromRevision(first) })
	events := l.wait(t, maxWhole>>20+5)
	for i, e := range events {
		if e.Revision != first+int64(i) {
			t.Fatalf("change %d: %s", i, describe(e))
		}
	}
	if !strings.Contains(r.logs.String(), "asked for fragments") {
		t.Fatalf("everything fitted into one response:\n%s", r.logs)
	}
}
