package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"keyhook/test/lab"
	"keyhook/test/receiver"
)

// buildLimit is ample for building etcd and keyhook with nothing in the cache.
const buildLimit = 8 * time.Minute

// The programs are built once, when the first test wants them.
var (
	keyhookProgram = built(lab.BuildKeyhook)
	etcdProgram    = built(func(ctx context.Context, _ string) (string, error) { return lab.NewestEtcd(ctx) })
)

func built(build func(context.Context, string) (string, error)) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
		defer cancel()
		return build(ctx, buildDir)
	})
}

var buildDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyhook-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	return m.Run()
}

// bench is what every test needs: an etcd and a receiver.
type bench struct {
	*testing.T
	ctx      context.Context // of the test, with its limit
	etcd     *lab.Etcd
	receiver *receiver.Server
}

// setUp starts an etcd and a receiver. Whatever this test waits for, it gives up
// after limit.
func setUp(t *testing.T, limit time.Duration) *bench {
	t.Helper()
	etcd, err := etcdProgram()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyhookProgram(); err != nil { // now, so that limit is not spent on it
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return &bench{T: t, ctx: ctx, etcd: lab.StartEtcd(t, etcd), receiver: receiver.Start(t)}
}

// keyhook writes a configuration with the rules given.
func (b *bench) keyhook(rules string) *lab.Keyhook {
	b.Helper()
	return newKeyhook(b.T, lab.Settings{Etcd: b.etcd.Endpoint, Rules: rules})
}

func newKeyhook(t *testing.T, s lab.Settings) *lab.Keyhook {
	t.Helper()
	program, err := keyhookProgram()
	if err != nil {
		t.Fatal(err)
	}
	return lab.NewKeyhook(t, program, s)
}

// must ends the test if something went wrong on the way.
func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// long reports whether the long forms are wanted.
func long() bool { return os.Getenv("KEYHOOK_TEST_LONG") != "" }

// either returns one size for the short form of a test and one for the long.
func either(short, full int) int {
	if long() {
		return full
	}
	return short
}

// seed returns what everything random in a test is drawn from.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv("KEYHOOK_TEST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("KEYHOOK_TEST_SEED: %v", err)
		}
	}
	t.Logf("KEYHOOK_TEST_SEED=%d", n)
	return n
}
