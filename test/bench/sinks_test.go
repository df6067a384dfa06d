package bench

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// sinkCount is how many sinks there are, each with its rule and its keys.
const sinkCount = 20

// BenchmarkSinks reports how long changes take from the put to the webhooks of
// healthy sinks, at a rate that waits for nothing: beside other healthy sinks,
// with a tenth of all sinks slow, and with a tenth of them dead.
func BenchmarkSinks(b *testing.B) {
	r := setUp(b)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	nobody := "http://" + closed.Addr().String()
	r.must(closed.Close())
	perSecond := *rate
	if perSecond == 0 {
		perSecond = 2000
	}
	settings := []struct{ name, tenth string }{
		{"all healthy", r.receiver.url + "/in"},
		{"a tenth slow", r.receiver.url + "/slow"},
		{"a tenth dead", nobody},
	}
	took := make([][]time.Duration, len(settings))
	for round := range *rounds {
		for i, s := range settings {
			prefix := fmt.Sprintf("/sinks/%d-%d/", round, i)
			k := r.keyhookWith("now", r.sinks(prefix, s.tenth))
			k.Start()
			k.AwaitReady()
			took[i] = append(took[i], r.besides(prefix, perSecond, s.tenth == r.receiver.url+"/in")...)
			k.Kill() // what the dead and the slow ones are owed is not waited for
		}
	}
	b.ReportMetric(0, "ns/op")
	for i := range settings {
		slices.Sort(took[i])
	}
	for _, q := range []float64{0.5, 0.99, 0.999} {
		base := quantile(took[0], q)
		for i, s := range settings {
			at := quantile(took[i], q)
			ratio := float64(at) / float64(base)
			b.Logf("%.0f changes a second to %d sinks, %s: p%v of the healthy %v (%.2f)", perSecond, sinkCount, s.name, q*100, at, ratio)
			if i > 0 {
				b.ReportMetric(ratio, fmt.Sprintf("p%v-%s-ratio", q*100, strings.Fields(s.name)[2]))
			}
		}
	}
}

// healthy reports whether the i-th sink is no part of the tenth.
func healthy(i int) bool { return i%10 != 0 }

// sinks are sinks with a rule each; one in ten has the url given.
func (r *rig) sinks(prefix, tenth string) string {
	var sinks, rules strings.Builder
	for i := range sinkCount {
		url := r.receiver.url + "/in"
		if !healthy(i) {
			url = tenth
		}
		fmt.Fprintf(&sinks, "  - {name: s%d, webhook: {url: %q}, retry: {initial: 100ms, max: 10s}}\n", i, url)
		fmt.Fprintf(&rules, "  - {name: r%d, keys: '%s%d/{x}', send: {sink: s%d}}\n", i, prefix, i, i)
	}
	return "sinks:\n" + sinks.String() + "rules:\n" + rules.String()
}

// besides puts at a steady rate, to all sinks in turn, and returns how long the
// changes for the healthy ones took.
func (r *rig) besides(prefix string, perSecond float64, all bool) []time.Duration {
	r.Helper()
	n := int(perSecond*duration.Seconds()) / sinkCount * sinkCount
	r.receiver.after(r.B, 0)
	r.puts(perSecond, n, func(i int) string { return fmt.Sprintf("%s%d/%03d", prefix, i%sinkCount, i/sinkCount%100) }, func(i int) bool {
		return healthy(i % sinkCount)
	})
	want := n / 10 * 9
	arrive := want
	if all {
		arrive = n
	}
	seen := r.receiver.after(r.B, arrive)
	if len(seen.Latencies) < want {
		r.Errorf("%d of %d changes say when they were put", len(seen.Latencies), want)
	}
	return seen.Latencies
}
