package telemetry

import (
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"keyhook"
)

// Config says which metrics are kept.
type Config struct {
	// Version of keyhook, for keyhook_build_info.
	Version string
	// NoRuleSeries leaves the label rule empty everywhere, for configurations
	// with thousands of rules: the sums stay.
	NoRuleSeries bool
}

// Metrics counts what happens. Its methods may be called from several
// goroutines at once.
type Metrics struct {
	registry *prometheus.Registry
	perRule  bool
	snapshot atomic.Pointer[func() Snapshot]

	events     prometheus.Counter
	duplicates prometheus.Counter
	mismatches prometheus.Counter
	audited    prometheus.Counter
	differing  prometheus.Counter
	gaps       prometheus.Counter
	endToEnd   prometheus.Histogram
	commits    prometheus.Histogram
	commitErrs prometheus.Counter

	matches    *prometheus.CounterVec
	ruleErrors *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	took       *prometheus.HistogramVec
	deliveries *prometheus.CounterVec
	expired    *prometheus.CounterVec

	rules    sync.Mutex      // serialises SetRules and SetSinks
	known    map[string]bool // the rules as last set
	matched  children[string, prometheus.Counter]
	failed   children[string, prometheus.Counter]
	attempt  children[attemptKey, prometheus.Counter]
	duration children[string, prometheus.Observer]
	settled  children[settledKey, prometheus.Counter]
}

type attemptKey struct {
	sink    string
	outcome keyhook.Outcome
}

type settledKey struct {
	rule, sink string
	outcome    keyhook.Outcome
}

// New returns metrics in a registry of their own, with those of the Go runtime
// and of the process.
func New(cfg Config) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		perRule:    !cfg.NoRuleSeries,
		known:      make(map[string]bool),
		events:     counter("keyhook_events_total", "Changes read from etcd and admitted."),
		duplicates: counter("keyhook_duplicate_events_total", "Changes that etcd sent again and that were dropped."),
		mismatches: counter("keyhook_mirror_mismatches_total", "Changes that do not follow what the mirror holds: a sign of lost events."),
		audited:    counter("keyhook_audited_keys_total", "Keys of which audits have compared what is known with what etcd holds."),
		differing:  counter("keyhook_audit_differences_total", "Keys that audits found to differ from what is known: changes were lost."),
		gaps:       counter("keyhook_gaps_total", "Times that history could not be read on: compacted or rolled back."),
		commitErrs: counter("keyhook_commit_errors_total", "Commits of the checkpoint that failed; each is tried again."),
		endToEnd: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyhook_end_to_end_seconds", Help: "From receiving a change to the acknowledgement of its delivery.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400},
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyhook_commit_duration_seconds", Help: "Time of a commit of the checkpoint, failed ones included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		matches:    counters("keyhook_matches_total", "Changes that a rule matched.", "rule"),
		ruleErrors: counters("keyhook_rule_errors_total", "Conditions that failed at run time; each is a non-match.", "rule"),
		attempts:   counters("keyhook_attempts_total", "Attempts at deliveries.", "sink", "outcome"),
		deliveries: counters("keyhook_deliveries_total", "Deliveries that were settled.", "rule", "sink", "outcome"),
		expired:    counters("keyhook_dead_letters_expired_total", "Dead letters that were dropped because dead_letters in the configuration keeps no more.", "sink"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyhook_attempt_duration_seconds", Help: "Time of an attempt, whatever its outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60},
		}, []string{"sink"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "keyhook_build_info", Help: "1, labelled with the version of keyhook and of Go.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "go_version": runtime.Version()},
	}, func() float64 { return 1 })

	var errs []error
	for _, c := range []prometheus.Collector{
		m.events, m.duplicates, m.mismatches, m.audited, m.differing, m.gaps, m.endToEnd, m.commits, m.commitErrs,
		m.matches, m.ruleErrors, m.attempts, m.took, m.deliveries, m.expired, build, &gauges{metrics: m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		errs = append(errs, m.registry.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return m, nil
}

// Handler serves the metrics; one that cannot be told does not hide the others.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: 4, ErrorHandling: promhttp.ContinueOnError,
	})
}

// Gatherer gives access to the metrics for tests and for exporters.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Events counts changes of a range that were admitted.
func (m *Metrics) Events(_ keyhook.Range, n int) { m.events.Add(float64(n)) }

// Duplicates counts changes that etcd sent again.
func (m *Metrics) Duplicates(_ keyhook.Range, n int) { m.duplicates.Add(float64(n)) }

// Mismatches counts changes that do not follow what the mirror holds.
func (m *Metrics) Mismatches(_ keyhook.Range, n int) { m.mismatches.Add(float64(n)) }

// Audited counts keys that were compared with etcd, and those that differed.
func (m *Metrics) Audited(_ keyhook.Range, keys, differing int) {
	m.audited.Add(float64(keys))
	m.differing.Add(float64(differing))
}

// Gap counts a stretch of history that cannot be read.
func (m *Metrics) Gap() { m.gaps.Inc() }

// Matched counts a change that rule matched.
func (m *Metrics) Matched(rule string) { m.perRuleCounter(&m.matched, m.matches, rule).Inc() }

// RuleError counts a condition of rule that failed at run time.
func (m *Metrics) RuleError(rule string) { m.perRuleCounter(&m.failed, m.ruleErrors, rule).Inc() }

// Attempt counts one attempt and the time it took.
func (m *Metrics) Attempt(sink string, outcome keyhook.Outcome, took time.Duration) {
	m.attemptCounter(attemptKey{sink, outcome}).Inc()
	m.durationOf(sink).Observe(took.Seconds())
}

// Settled counts the end of a delivery. Of delivered ones it observes the time
// from receiving the change.
func (m *Metrics) Settled(rule, sink string, outcome keyhook.Outcome, endToEnd time.Duration) {
	if !m.perRule {
		rule = ""
	}
	m.settledCounter(settledKey{rule, sink, outcome}).Inc()
	if outcome == keyhook.Delivered {
		// Wall clocks are compared across restarts, and jump.
		m.endToEnd.Observe(max(endToEnd, 0).Seconds())
	}
}

// Expired counts dead letters of a sink that were dropped for good.
func (m *Metrics) Expired(sink string, n int) { m.expired.WithLabelValues(sink).Add(float64(n)) }

// Committed observes one try at a commit.
func (m *Metrics) Committed(took time.Duration, err error) {
	m.commits.Observe(took.Seconds())
	if err != nil {
		m.commitErrs.Inc()
	}
}
