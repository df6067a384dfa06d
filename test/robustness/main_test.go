package robustness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook/test/lab"
)

// buildLimit is ample for building one etcd with nothing in the cache.
const buildLimit = 8 * time.Minute

var buildDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyhook-robustness-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	buildDir = dir
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// keyhookProgram is built once.
var keyhookProgram = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	return lab.BuildKeyhook(ctx, buildDir)
})

// etcdPrograms returns those of a version, built before any limit counts.
func etcdPrograms(t *testing.T, version string) lab.EtcdPrograms {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	p, err := lab.EtcdProgramsOf(ctx, version)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// long reports whether the long form is wanted.
func long() bool { return os.Getenv("KEYHOOK_TEST_LONG") != "" }

// seeds returns what n runs are drawn from.
func seeds(t *testing.T, n int) []uint64 {
	t.Helper()
	if s := os.Getenv("KEYHOOK_TEST_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("KEYHOOK_TEST_SEED: %v", err)
		}
		return []uint64{seed}
	}
	drawn := make([]uint64, n)
	for i := range drawn {
		drawn[i] = rand.Uint64()
	}
	return drawn
}
