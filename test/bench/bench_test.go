package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"keyhook/internal/app"
	"keyhook/test/lab"
	"keyhook/test/load"
)

const (
	concurrency = 16
	valueSize   = 256
)

var (
	backlog  = flag.Int("backlog", 50_000, "changes in the backlog that is drained")
	perTxn   = flag.Int("txn", 16, "changes in one revision of the backlog; etcd lets a watcher that is behind catch up with at most 10,000 revisions a second")
	rounds   = flag.Int("rounds", 3, "how often both sides are measured, in turns")
	duration = flag.Duration("duration", 10*time.Second, "of each latency measurement")
	rate     = flag.Float64("rate", 0, "puts a second for the latency; 0: a tenth of the throughput")
)

var program, etcdProgram string

func TestMain(m *testing.M) {
	if os.Getenv(receiving) != "" {
		os.Exit(receive())
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if flag.Lookup("test.bench").Value.String() == "" {
		return m.Run() // nothing to measure, nothing to build
	}
	dir, err := os.MkdirTemp("", "keyhook-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = lab.BuildKeyhook(context.Background(), dir); err == nil {
		etcdProgram, err = lab.NewestEtcd(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// rig is an etcd and a receiver.
type rig struct {
	*testing.B
	etcd     *lab.Etcd
	client   *clientv3.Client
	receiver *receiver
}

func setUp(b *testing.B) *rig {
	b.Helper()
	etcd := lab.StartEtcd(b, etcdProgram)
	return &rig{B: b, etcd: etcd, client: etcd.Client(), receiver: startReceiver(b)}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// keyhook configures keyhook to send what happens below prefix to the receiver,
// beginning as start says.
func (r *rig) keyhook(prefix, start string) *lab.Keyhook {
	r.Helper()
	return r.keyhookWith(start, fmt.Sprintf(`
sinks:
  - name: hook
    webhook: {url: %q}
    concurrency: %d
rules:
  - name: all
    keys: %s{path...}
    send: {sink: hook}
`, r.receiver.url+"/in", concurrency, prefix))
}

// keyhookWith configures keyhook with rules, beginning as start says.
func (r *rig) keyhookWith(start, rules string) *lab.Keyhook {
	r.Helper()
	return lab.NewKeyhook(r.B, program, lab.Settings{Etcd: r.etcd.Endpoint, More: "  start: " + start, Rules: rules})
}

// fill writes a backlog, ten changes of each key, and returns its first
// revision.
func (r *rig) fill(prefix string) int64 {
	r.Helper()
	first := r.etcd.Revision() + 1
	key := func(i int) string { return fmt.Sprintf("%s%06d", prefix, i%(*backlog/10)) }
	r.must(load.Fill(r.Context(), r.client, *backlog, *perTxn, key, func(i int) string { return fmt.Sprintf("%-*d", valueSize, i) }))
	return first
}

// BenchmarkThroughput reports deliveries a second while a backlog is drained.
func BenchmarkThroughput(b *testing.B) {
	r := setUp(b)
	ours, bare, _ := r.throughput()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours, "keyhook/s")
	b.ReportMetric(bare, "bare/s")
	b.ReportMetric(ours/bare, "ratio")
}

// throughput returns the medians over the rounds, and the highest memory that
// keyhook took, in bytes.
func (r *rig) throughput() (ours, bare float64, memory int64) {
	r.Helper()
	var both [2][]float64
	for round := range *rounds {
		prefix := fmt.Sprintf("/bench/%d/", round)
		first := r.fill(prefix)
		k := r.keyhook(prefix, fmt.Sprint(first))
		began := time.Now()
		k.Start()
		drained := r.receiver.after(r.B, *backlog)
		all := time.Since(began)
		_, peak := k.Memory()
		memory = max(memory, peak)
		if code := k.Stop(); code != 0 {
			r.Errorf("keyhook ended with code %d", code)
		}
		if extra := r.receiver.after(r.B, 0); drained.Count+extra.Count != *backlog {
			r.Errorf("%d deliveries of %d changes", drained.Count+extra.Count, *backlog)
		}
		r.must(postAll(r.Context(), r.receiver.url+"/in", drained.Samples, *backlog))
		posted := r.receiver.after(r.B, *backlog)
		r.Logf("round %d: keyhook %.0f/s (%.1f s from its start), bare client %.0f/s, ratio %.2f, memory %d MiB, %s",
			round, drained.rate(), all.Seconds(), posted.rate(), drained.rate()/posted.rate(), peak>>20, cost(k))
		both[0], both[1] = append(both[0], drained.rate()), append(both[1], posted.rate())
	}
	return median(both[0]), median(both[1]), memory
}

// cost says what each change of the backlog has cost keyhook, which has ended:
// starting and stopping are a part of it. On a machine that is busy this is
// steadier than any rate.
func cost(k *lab.Keyhook) string {
	cpu, written := k.Cost()
	n := time.Duration(*backlog)
	return fmt.Sprintf("%v of CPU and %d bytes written a change", (cpu / n).Round(100*time.Nanosecond), written/int64(n))
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// BenchmarkLatency reports the time from before a put to the arrival at the
// webhook, at a load that does not wait for anything.
func BenchmarkLatency(b *testing.B) {
	r := setUp(b)
	perSecond := *rate
	if perSecond == 0 {
		ours, _, _ := r.throughput()
		perSecond = ours / 10
	}
	var ours, bare []time.Duration
	for round := range *rounds {
		prefix := fmt.Sprintf("/latency/%d/", round)
		ctx, cancel := context.WithCancel(b.Context())
		watching, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- watchAndPost(ctx, r.client, prefix+"bare/", r.receiver.url+"/in", func() { close(watching) })
		}()
		<-watching
		bare = append(bare, r.latencies(prefix+"bare/", perSecond)...)
		cancel()
		r.must(<-done)

		k := r.keyhook(prefix+"ours/", "now")
		k.Start()
		k.AwaitReady()
		ours = append(ours, r.latencies(prefix+"ours/", perSecond)...)
		if code := k.Stop(); code != 0 {
			b.Errorf("keyhook ended with code %d", code)
		}
	}
	b.ReportMetric(0, "ns/op")
	slices.Sort(ours)
	slices.Sort(bare)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		o, p := quantile(ours, q), quantile(bare, q)
		b.Logf("at %.0f puts a second, p%v: keyhook %v, bare loop %v, ratio %.2f", perSecond, q*100, o, p, float64(o)/float64(p))
		b.ReportMetric(float64(o)/float64(p), fmt.Sprintf("p%v-ratio", q*100))
	}
}

// latencies puts at a steady rate and returns how long each change took to
// arrive.
func (r *rig) latencies(prefix string, perSecond float64) []time.Duration {
	r.Helper()
	r.receiver.after(r.B, 0)
	n := int(perSecond * duration.Seconds())
	r.puts(perSecond, n, func(i int) string { return fmt.Sprintf("%s%04d", prefix, i%1000) }, func(int) bool { return true })
	seen := r.receiver.after(r.B, n)
	if len(seen.Latencies) != n {
		r.Errorf("%d of %d changes say when they were put", len(seen.Latencies), n)
	}
	return seen.Latencies
}

// puts puts n keys at a steady rate, which waits for nothing. The values of those
// that count say when they were put.
func (r *rig) puts(perSecond float64, n int, key func(i int) string, counts func(i int) bool) {
	r.Helper()
	group, ctx := errgroup.WithContext(r.Context())
	for i, began := 0, time.Now(); i < n; i++ {
		due := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		}
		group.Go(func() error {
			value := strings.Repeat("0", valueSize)
			if counts(i) {
				value = stamped(time.Now())
			}
			_, err := r.client.Put(ctx, key(i), value)
			return err
		})
	}
	r.must(group.Wait())
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// BenchmarkInside drains a backlog within this process, where -cpuprofile and
// -memprofile see it.
func BenchmarkInside(b *testing.B) {
	b.Run("webhook", func(b *testing.B) {
		r := setUp(b)
		first := r.fill("/inside/")
		r.inside(r.keyhook("/inside/", fmt.Sprint(first)), func() float64 { return r.receiver.after(b, *backlog).rate() })
	})
	b.Run("jetstream", func(b *testing.B) {
		r := setUp(b)
		js, url := r.bus()
		first := r.fill("/inside/")
		stream := r.stream(js, "OURS", "ours.>")
		r.inside(r.keyhookTo(url, "/inside/", fmt.Sprint(first)), func() float64 { return r.stored(stream) })
	})
}

// inside runs k's configuration here until drained returns the deliveries a
// second.
func (r *rig) inside(k *lab.Keyhook, drained func() float64) {
	r.Helper()
	plan, err := app.Load(filepath.Clean(k.Config))
	r.must(err)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	r.ResetTimer()
	go func() { done <- app.Run(ctx, app.Options{Plan: plan, Version: "bench"}) }()
	perSecond := drained()
	r.StopTimer()
	cancel()
	r.must(<-done)
	r.ReportMetric(perSecond, "keyhook/s")
}
