package watch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/checkpoint/checkpointtest"
)

func TestAQueueIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100)
		if q.push(item{bytes: 60}) {
			t.Fatal("full at 60 of 100 bytes")
		}
		if !q.push(item{bytes: 60}) {
			t.Fatal("not full at 120 of 100 bytes")
		}
		half := make(chan error, 1)
		go func() { half <- q.waitHalf(t.Context()) }()
		first, err := popped(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(half) != 0 {
			t.Fatal("what was popped does not count any more, though it was not released")
		}
		q.release(first.bytes)
		synctest.Wait()
		if len(half) != 0 {
			t.Fatal("60 of 100 bytes are less than half")
		}
		if _, ok, err := q.tryPop(); !ok || err != nil {
			t.Fatal("the second item is gone")
		}
		q.release(60)
		if err := <-half; err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := popped(ctx, q)
			waited <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-waited; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

func TestStartsAreReadAsTheyAreWritten(t *testing.T) {
	for _, s := range []Start{Now, Snapshot, Earliest, FromRevision(1), FromRevision(42)} {
		if got, err := ParseStart(s.String()); err != nil || got != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "later", "1.5", "99999999999999999999", "Now"} {
		if _, err := ParseStart(s); err == nil || !strings.Contains(err.Error(), "now, snapshot, earliest or a revision") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestVersionsHaveTheDefectsThatTheyHave(t *testing.T) {
	for version, want := range map[string]int{
		"3.7.3": 0, "3.7.1": 0, "3.7.0": 1, "3.6.14": 0, "3.6.1": 2, "3.5.35": 0, "3.5.22": 1, "3.5.17": 3, "3.5.7": 8,
		"3.7.0-rc.1": 1, "v3.6.14": 0, "3.8.0": 0, "": 0, "not a version": 0, "3.x.1": 0,
	} {
		if got := knownDefects(version); len(got) != want {
			t.Errorf("%s has %d defects, not %d: %+v", version, len(got), want, got)
		}
	}
	if got := knownDefects("3.5.17")[0]; got.issue != "etcd-io/etcd#19179" || got.fixedIn() != "3.4.36, 3.5.18" {
		t.Errorf("%+v", got)
	}
}

func TestABadConfigurationIsAnError(t *testing.T) {
	l := newLedger(checkpointtest.NewMemory())
	good := func() Config {
		c := config(clientv3.NewCtxClient(t.Context()), l, prefix("/a/"))
		c.Identity.ClusterID = 1
		return c
	}
	if _, err := good().withDefaults(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"no client":       func(c *Config) { c.Client = nil },
		"no mirror":       func(c *Config) { c.Mirror = nil },
		"no consumer":     func(c *Config) { c.Consumer = nil },
		"no cluster id":   func(c *Config) { c.Identity.ClusterID = 0 },
		"a revision from": func(c *Config) { c.Start = FromRevision(0) },
		"a limit is":      func(c *Config) { c.BatchBytes = -1 },
		"an interval is":  func(c *Config) { c.RetryMax = -1 },
	} {
		c := good()
		change(&c)
		if _, err := c.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// However long etcd was away, it is found within seconds of its return.
func TestAttemptsAreNeverFarApart(t *testing.T) {
	cfg := Config{
		Client: clientv3.NewCtxClient(t.Context()), Mirror: checkpointtest.NewMemory(),
		Consumer: newLedger(checkpointtest.NewMemory()), Identity: checkpoint.Identity{ClusterID: 1},
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	bo := (&runner{shared: &shared{cfg: cfg}}).newBackoff()
	if first := bo.NextBackOff(); first <= 0 || first > 150*time.Millisecond {
		t.Errorf("the first attempt after %s", first)
	}
	longest := time.Duration(0)
	for range 1000 {
		longest = max(longest, bo.NextBackOff())
	}
	if longest > 2*time.Second || longest < time.Second {
		t.Errorf("attempts are up to %s apart", longest)
	}
}

func TestPermissionErrorsNameWhatToGrant(t *testing.T) {
	for _, c := range []struct {
		r           keyhook.Range
		needs, hint string
	}{
		{prefix("/a/"), `READ on ["/a/", "/a0")`, `read --prefix "/a/"`},
		{keyhook.Single([]byte("k")), `READ on ["k", "k\x00")`, `read "k"`},
		{keyhook.Range{Start: []byte("a"), End: []byte("m")}, `READ on ["a", "m")`, `read "a" "m"`},
		{keyhook.Range{Start: []byte("a")}, `READ on ["a", ∞)`, `read --from-key "a"`},
	} {
		e := deniedError(c.r, "")
		if !strings.Contains(e.Error(), "keyhook needs "+c.needs) || !strings.HasSuffix(e.Hint, c.hint) {
			t.Errorf("%v (%s)", e, e.Hint)
		}
	}
}

func TestRequestsNameTheKeysOfARange(t *testing.T) {
	for _, c := range []struct {
		r        keyhook.Range
		key, end string
	}{
		{keyhook.Range{}, "\x00", "\x00"},
		{keyhook.Range{End: []byte("b")}, "\x00", "b"},
		{keyhook.Single([]byte("k")), "k", ""},
		{keyhook.Range{End: []byte{0}}, "\x00", "\x00"},
		{prefix("\xff"), "\xff", "\x00"},
		{prefix("/a/"), "/a/", "/a0"},
	} {
		if key, end := bounds(c.r); string(key) != c.key || string(end) != c.end {
			t.Errorf("%v: %q, %q", c.r, key, end)
		}
	}
}

func TestPagesGrowAndShrinkWithTheValues(t *testing.T) {
	s := pageSize{limit: firstPage, maxKeys: 10_000, target: 4 << 20}
	small := kvs(64, 100)
	for range 5 {
		s.received(small)
	}
	if s.limit != 10_000 {
		t.Fatalf("%d small keys", s.limit)
	}
	s.tooLarge()
	s.tooLarge()
	if s.limit != 10_000/64 {
		t.Fatalf("%d keys after two pages that were too large", s.limit)
	}
	s.received(kvs(8, 1<<20))
	if s.limit != 3 {
		t.Fatalf("%d keys of a MiB", s.limit)
	}
	s.received(kvs(1, 5<<20))
	s.tooLarge()
	if s.limit != 1 {
		t.Fatalf("%d keys of 5 MiB", s.limit)
	}
}

func kvs(n, size int) []*mvccpb.KeyValue {
	var out []*mvccpb.KeyValue
	for range n {
		out = append(out, &mvccpb.KeyValue{Key: []byte("key"), Value: make([]byte, size)})
	}
	return out
}

// popped waits for an item.
func popped(ctx context.Context, q *queue) (item, error) {
	for {
		if it, ok, err := q.tryPop(); ok || err != nil {
			return it, err
		}
		select {
		case <-q.arrived:
		case <-ctx.Done():
			return item{}, ctx.Err()
		}
	}
}

func TestARangeIsNearTheCompactionOnlyFarBehind(t *testing.T) {
	for _, c := range []struct {
		pos, compacted, head int64
		want                 bool
	}{
		{0, 0, 10_000, false},        // never began
		{5000, 5000, 5000, false},    // all is compacted, and read
		{5000, 5000, 5900, false},    // not far behind
		{5000, 4900, 7000, true},     // the next one may come
		{6500, 4000, 8000, false},    // in the newer half
		{5500, 4000, 8000, true},     // in the older half
		{100_000, 0, 150_000, false}, // never compacted
		{4000, 5000, 8000, true},     // past it
	} {
		if got := nearCompaction(c.pos, c.compacted, c.head); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestComparisonsForDoubtsBecomeRare(t *testing.T) {
	d := doubt{interval: time.Minute}
	now := time.Unix(0, 0)
	var made []int
	for minute := range 180 { // a doubt in each
		if d.due(now.Add(time.Duration(minute) * time.Minute)) {
			made = append(made, minute)
		}
	}
	if want := []int{0, 1, 3, 7, 15, 31, 63, 123}; !slices.Equal(made, want) {
		t.Errorf("comparisons in minutes %v, not %v", made, want)
	}
	calm := now.Add(10 * time.Hour)
	if !d.due(calm) || d.due(calm.Add(30*time.Second)) || !d.due(calm.Add(time.Minute)) {
		t.Error("it does not begin anew after hours without a doubt")
	}
}

func TestARangeThatComesNearTheCompactionIsWarnedAboutOnce(t *testing.T) {
	l := newLedger(checkpointtest.NewMemory())
	r := prepared(t, l, config(clientv3.NewCtxClient(t.Context()), l, prefix("/a/"), prefix("/b/")), func(c *Config) { c.Identity.ClusterID = 1 })
	for name, pos := range map[string]int64{"/a/": 1000, "/b/": 4900} {
		one := newRunner(r.shared, prefix(name))
		one.status.Position = keyhook.After(pos)
		r.running = append(r.running, one)
	}
	r.seen.sawHead(head{revision: 5000})
	r.seen.sawCompacted(900)
	near := r.warnOfCompaction(nil)
	near = r.warnOfCompaction(near)
	const warning = "next compaction may overtake a range"
	if log := r.logs.String(); strings.Count(log, warning) != 1 || !strings.Contains(log, "range=/a/") {
		t.Fatalf("log:\n%s", log)
	}
	for _, one := range r.running {
		one.status.Position = keyhook.After(5000)
	}
	near = r.warnOfCompaction(near)
	r.seen.sawHead(head{revision: 9000})
	r.seen.sawCompacted(4999)
	if r.warnOfCompaction(near); strings.Count(r.logs.String(), warning) != 3 {
		t.Fatalf("not warned again; log:\n%s", r.logs)
	}
}
