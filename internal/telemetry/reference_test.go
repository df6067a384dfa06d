package telemetry_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"keyhook/internal/telemetry"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew; make generate does")

const (
	reference = "../../docs/metrics.md"
	preface   = `<!-- Generated from the metrics by make generate; edit their help texts instead. -->

# Metrics

What ` + "`/metrics`" + ` has of keyhook's own, beside what the Go runtime and the process tell. [Alerts](alerts.md) explains what to
watch. The label ` + "`rule`" + ` is empty everywhere where ` + "`metrics.per_rule`" + ` is off.

| Metric | Type | Labels | What it tells |
|---|---|---|---|
`
)

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "(.*)", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// The page of the guides has every metric, as it is.
func TestTheReferenceIsUpToDate(t *testing.T) {
	m := metrics(t, telemetry.Config{Version: "v1.2.3"})
	story(m)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	for _, f := range families {
		types[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	registry, ok := m.Gatherer().(interface{ Describe(chan<- *prometheus.Desc) })
	if !ok {
		t.Fatalf("%T does not say what it has", m.Gatherer())
	}
	descriptions := make(chan *prometheus.Desc)
	go func() { defer close(descriptions); registry.Describe(descriptions) }()
	var rows []string
	for d := range descriptions {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			t.Errorf("not understood: %s", d)
			continue
		}
		name, help := parts[1], parts[2]
		if !strings.HasPrefix(name, "keyhook_") {
			continue
		}
		if types[name] == "" {
			t.Errorf("the story of the other tests leaves out %s", name)
		}
		var labels []string
		for label := range strings.SplitSeq(parts[3]+","+parts[4], ",") {
			if label, _, _ = strings.Cut(label, "="); label != "" {
				labels = append(labels, "`"+label+"`")
			}
		}
		slices.Sort(labels)
		rows = append(rows, fmt.Sprintf("| %#q | %s | %s | %s |\n", name, types[name], strings.Join(labels, ", "), help))
	}
	slices.Sort(rows)
	want := preface + strings.Join(rows, "")
	if *update {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the metrics say: run make generate", reference)
	}
}
