package deploy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"keyhook"
	"keyhook/internal/telemetry"
)

// metrics are the names of the series that keyhook has, each with its labels.
type metrics map[string][]string

// targetLabels are what Prometheus adds to each series.
var targetLabels = []string{"job", "instance"}

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", .*constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// knownMetrics asks telemetry itself, those included that have no series yet.
func knownMetrics(t *testing.T) metrics {
	t.Helper()
	m, err := telemetry.New(telemetry.Config{Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	m.Attempt("sink", keyhook.Delivered, time.Second) // gives a histogram its type
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var histograms []string
	for _, f := range families {
		if f.GetType().String() == "HISTOGRAM" {
			histograms = append(histograms, f.GetName())
		}
	}

	registry, ok := m.Gatherer().(interface{ Describe(chan<- *prometheus.Desc) })
	if !ok {
		t.Fatalf("%T does not say what it has", m.Gatherer())
	}
	descriptions := make(chan *prometheus.Desc)
	go func() { defer close(descriptions); registry.Describe(descriptions) }()
	known := make(metrics)
	for d := range descriptions {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("not understood: %s", d)
		}
		labels := slices.Clone(targetLabels)
		for _, label := range strings.Split(parts[2]+","+parts[3], ",") {
			if name, _, _ := strings.Cut(label, "="); name != "" {
				labels = append(labels, name)
			}
		}
		known[parts[1]] = labels
		if slices.Contains(histograms, parts[1]) {
			known[parts[1]+"_bucket"] = append(slices.Clone(labels), "le")
			known[parts[1]+"_sum"], known[parts[1]+"_count"] = labels, labels
		}
	}
	if len(known) < 30 {
		t.Fatalf("only %d series are known", len(known))
	}
	return known
}

// selection is what an expression asks for, as deployfacts tells it.
type selection struct {
	Expr    string
	Metrics []struct {
		Name     string
		Matchers []struct{ Label, Op, Value string }
	}
	Labels []string
}

// selections parses expressions.
func selections(t *testing.T, expressions []string) []selection {
	t.Helper()
	var all []selection
	facts(t, expressions, &all, "promql")
	return all
}

// lacks returns what an expression asks for that keyhook does not have, and the
// labels that the expression's series have.
func (known metrics) lacks(s selection) (faults, labels []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, m := range s.Metrics {
		has, ok := known[m.Name]
		if !ok {
			fault("there is no metric %s", m.Name)
		}
		labels = append(labels, has...)
		for _, matcher := range m.Matchers {
			if ok && !slices.Contains(has, matcher.Label) {
				fault("%s has no label %s", m.Name, matcher.Label)
			}
			if matcher.Label == "outcome" && !slices.Contains(outcomes, keyhook.Outcome(matcher.Value)) {
				fault("there is no outcome %s", matcher.Value)
			}
		}
	}
	for _, label := range s.Labels {
		if !slices.Contains(labels, label) {
			fault("nothing has a label %s", label)
		}
	}
	return faults, labels
}

// check reports what the expression at a place lacks, and returns the labels
// that its series have.
func (known metrics) check(t *testing.T, where string, s selection) []string {
	t.Helper()
	faults, labels := known.lacks(s)
	for _, fault := range faults {
		t.Errorf("%s: %s", where, fault)
	}
	return labels
}

var outcomes = []keyhook.Outcome{
	keyhook.Delivered, keyhook.Retried, keyhook.Dead, keyhook.Superseded, keyhook.Purged, keyhook.Cancelled, keyhook.Absorbed,
	keyhook.Held, keyhook.Interrupted,
}

func TestAnExpressionThatAsksForWhatIsNotThereIsFound(t *testing.T) {
	known := knownMetrics(t)
	for _, has := range []string{"keyhook_owed", "keyhook_commit_duration_seconds_bucket", "process_start_time_seconds", "keyhook_build_info"} {
		if known[has] == nil {
			t.Errorf("%s is not known", has)
		}
	}
	for _, expr := range []string{
		"keyhook_owd > 0", `keyhook_owed{rule="r"}`, "sum by (rule) (keyhook_owed)", "keyhook_owed_bucket",
		`keyhook_attempts_total{outcome="delayed"}`, "keyhook_owed / on (range) keyhook_position_revision + on (zone) keyhook_ready",
	} {
		if faults, _ := known.lacks(selections(t, []string{expr})[0]); len(faults) == 0 {
			t.Errorf("%s passes", expr)
		}
	}
}
