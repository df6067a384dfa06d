package telemetry_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"keyhook"
	"keyhook/internal/telemetry"
)

// What the dispatcher asks of its observer.
var _ interface {
	Attempt(sink string, outcome keyhook.Outcome, took time.Duration)
	Settled(rule, sink string, outcome keyhook.Outcome, endToEnd time.Duration)
	Expired(sink string, n int)
	Committed(took time.Duration, err error)
} = (*telemetry.Metrics)(nil)

func metrics(t testing.TB, cfg telemetry.Config) *telemetry.Metrics {
	t.Helper()
	m, err := telemetry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A day in the life of a process, and the page that tells of it.
func story(m *telemetry.Metrics) {
	m.SetSinks([]string{"bus", "pager"})
	m.SetRules([]telemetry.Rule{{Name: "audit", Sinks: []string{"bus"}}, {Name: "failover", Sinks: []string{"pager"}}})
	m.Events(keyhook.Range{}, 3)
	m.Duplicates(keyhook.Range{}, 2)
	m.Mismatches(keyhook.Range{}, 1)
	m.Gap()
	m.Matched("failover")
	m.Matched("audit")
	m.Matched("audit")
	m.RuleError("audit")
	m.Attempt("pager", keyhook.Retried, 3*time.Millisecond)
	m.Attempt("pager", keyhook.Delivered, 7*time.Millisecond)
	m.Attempt("bus", keyhook.Dead, 2*time.Second)
	m.Settled("failover", "pager", keyhook.Delivered, 20*time.Millisecond)
	m.Settled("audit", "bus", keyhook.Dead, time.Hour)
	m.Settled("audit", "bus", keyhook.Delivered, -time.Second) // the clock jumped
	m.Expired("bus", 4)
	m.Committed(4*time.Millisecond, nil)
	m.Committed(40*time.Millisecond, errors.New("disk full"))
	began := time.Now()
	m.Follow(func() telemetry.Snapshot {
		return telemetry.Snapshot{
			Ready: true, Revision: 120, Compacted: 40, MemoryBytes: 4096, DiskFree: new(int64(8 << 30)),
			Ranges: []telemetry.RangeState{{Range: "/a/", Position: 118}, {Range: "/b/", Position: 100}, {Range: "/new/"}},
			Sinks: []telemetry.SinkState{
				{Name: "bus", DeadLetters: 1},
				{Name: "pager", Owed: 9, Oldest: began.Add(-90 * time.Second), Waiting: 3, InFlight: 2, Held: true, Paused: true, BreakerOpen: true},
			},
		}
	})
}

func TestThePage(t *testing.T) {
	for file, cfg := range map[string]telemetry.Config{
		"all.txt":      {Version: "v1.2.3"},
		"no_rules.txt": {Version: "v1.2.3", NoRuleSeries: true},
	} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := metrics(t, cfg)
				story(m)
				want, err := os.Open(filepath.Join("testdata", file))
				if err != nil {
					t.Fatal(err)
				}
				defer want.Close()
				// All but the build's, whose Go version is the machine's.
				if err := testutil.GatherAndCompare(m.Gatherer(), want, names(t, m)...); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// names returns the names of keyhook's own metrics but for the build's.
func names(t *testing.T, m *telemetry.Metrics) []string {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "keyhook_") && f.GetName() != "keyhook_build_info" {
			names = append(names, f.GetName())
		}
	}
	return names
}

// The names that others rely on.
func TestTheContract(t *testing.T) {
	m := metrics(t, telemetry.Config{Version: "v1.2.3"})
	story(m)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	page := w.Body.String()
	for _, series := range []string{
		`keyhook_events_total 3`, `keyhook_matches_total{rule="failover"} 1`, `keyhook_rule_errors_total{rule="audit"} 1`,
		`keyhook_attempts_total{outcome="delivered",sink="pager"} 1`,
		`keyhook_deliveries_total{outcome="dead",rule="audit",sink="bus"} 1`,
		`keyhook_end_to_end_seconds_count 2`, `keyhook_owed{sink="pager"} 9`, `keyhook_oldest_owed_seconds{sink="pager"} 90`,
		`keyhook_dead_letters{sink="bus"} 1`, `keyhook_position_revision{range="/a/"} 118`, `keyhook_etcd_revision 120`,
		`keyhook_compaction_headroom_revisions 60`, `keyhook_gaps_total 1`, `keyhook_commit_duration_seconds_count 2`,
		`keyhook_breaker_open{sink="pager"} 1`, `keyhook_rules_stale 0`, `keyhook_build_info{go_version=`,
		"go_goroutines ", "process_start_time_seconds ",
	} {
		if !strings.Contains(page, "\n"+series) {
			t.Errorf("the page lacks %s", series)
		}
	}
}

// rate() and increase() do not see the increment with which a series appears.
func TestSeriesOfTheConfigurationBeginAtZero(t *testing.T) {
	for _, cfg := range []telemetry.Config{{}, {NoRuleSeries: true}} {
		m := metrics(t, cfg)
		rule := "r"
		if cfg.NoRuleSeries {
			rule = ""
		}
		m.SetSinks([]string{"s"})
		m.SetRules([]telemetry.Rule{{Name: "r", Sinks: []string{"s"}}})
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, series := range []string{
			`keyhook_attempts_total{outcome="delivered",sink="s"}`, `keyhook_attempts_total{outcome="retried",sink="s"}`,
			`keyhook_attempts_total{outcome="dead",sink="s"}`, `keyhook_attempt_duration_seconds_count{sink="s"}`,
			`keyhook_deliveries_total{outcome="delivered",rule="` + rule + `",sink="s"}`,
			`keyhook_deliveries_total{outcome="dead",rule="` + rule + `",sink="s"}`,
			`keyhook_dead_letters_expired_total{sink="s"}`, `keyhook_matches_total{rule="` + rule + `"}`,
			`keyhook_rule_errors_total{rule="` + rule + `"}`, `keyhook_events_total`, `keyhook_gaps_total`,
		} {
			if !strings.Contains(w.Body.String(), "\n"+series+" 0\n") {
				t.Errorf("the page lacks %s 0", series)
			}
		}
	}
}

func TestBeforeAnythingIsKnownThereAreNoGauges(t *testing.T) {
	m := metrics(t, telemetry.Config{})
	for _, name := range names(t, m) {
		if name == "keyhook_owed" || name == "keyhook_etcd_revision" {
			t.Errorf("%s is told", name)
		}
	}
	m.Follow(func() telemetry.Snapshot { return telemetry.Snapshot{RulesStale: true} })
	if n, err := testutil.GatherAndCount(m.Gatherer(), "keyhook_compaction_headroom_revisions"); err != nil || n != 0 {
		t.Errorf("headroom without a position: %d, %v", n, err)
	}
}

func TestOneThatCannotBeToldHidesNoOther(t *testing.T) {
	m := metrics(t, telemetry.Config{})
	m.Events(keyhook.Range{}, 5)
	m.Follow(func() telemetry.Snapshot {
		return telemetry.Snapshot{Sinks: []telemetry.SinkState{{Name: "bad\xff"}, {Name: "twice"}, {Name: "twice"}, {Name: "good", Owed: 4}}}
	})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, series := range []string{"keyhook_events_total 5", `keyhook_owed{sink="good"} 4`} {
		if !strings.Contains(w.Body.String(), series) {
			t.Errorf("%d: the page lacks %s", w.Code, series)
		}
	}
}

func TestRulesComeAndGo(t *testing.T) {
	m := metrics(t, telemetry.Config{})
	count := func() (matches, deliveries int) {
		t.Helper()
		var counts []int
		for _, name := range []string{"keyhook_matches_total", "keyhook_deliveries_total"} {
			n, err := testutil.GatherAndCount(m.Gatherer(), name)
			if err != nil {
				t.Fatal(err)
			}
			counts = append(counts, n)
		}
		return counts[0], counts[1]
	}
	m.SetRules([]telemetry.Rule{{Name: "a"}, {Name: "b"}})
	m.Matched("a")
	m.Settled("a", "s", keyhook.Delivered, 0)
	m.Settled("b", "s", keyhook.Delivered, 0)
	if matches, deliveries := count(); matches != 2 || deliveries != 2 {
		t.Errorf("%d, %d series", matches, deliveries)
	}
	m.SetRules([]telemetry.Rule{{Name: "b"}, {Name: "c"}})
	if matches, deliveries := count(); matches != 2 || deliveries != 1 {
		t.Errorf("a is gone: %d, %d series", matches, deliveries)
	}
	m.Settled("a", "s", keyhook.Delivered, 0) // it was owed
	m.Settled("a", "s", keyhook.Delivered, 0)
	if _, deliveries := count(); deliveries != 2 {
		t.Errorf("what a owes settles: %d series", deliveries)
	}
	m.SetRules([]telemetry.Rule{{Name: "a"}, {Name: "b"}})
	m.Matched("a")
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(`
# HELP keyhook_matches_total Changes that a rule matched.
# TYPE keyhook_matches_total counter
keyhook_matches_total{rule="a"} 1
keyhook_matches_total{rule="b"} 0
`), "keyhook_matches_total"); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	m := metrics(t, telemetry.Config{})
	m.SetRules([]telemetry.Rule{{Name: "r"}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				m.Matched("r")
				m.RuleError("r")
				m.Attempt("s", keyhook.Delivered, time.Millisecond)
				m.Settled("r", "s", keyhook.Delivered, time.Millisecond)
			}
		})
	}
	wg.Wait()
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(`
# HELP keyhook_attempts_total Attempts at deliveries.
# TYPE keyhook_attempts_total counter
keyhook_attempts_total{outcome="delivered",sink="s"} 8000
# HELP keyhook_deliveries_total Deliveries that were settled.
# TYPE keyhook_deliveries_total counter
keyhook_deliveries_total{outcome="delivered",rule="r",sink="s"} 8000
`), "keyhook_attempts_total", "keyhook_deliveries_total"); err != nil {
		t.Error(err)
	}
}

func TestObservingAllocatesNothing(t *testing.T) {
	m := metrics(t, telemetry.Config{})
	observe := func() {
		m.Events(keyhook.Range{}, 1)
		m.Matched("r")
		m.Attempt("s", keyhook.Delivered, time.Millisecond)
		m.Settled("r", "s", keyhook.Delivered, time.Millisecond)
		m.Committed(time.Millisecond, nil)
	}
	observe()
	if n := testing.AllocsPerRun(100, observe); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := metrics(b, telemetry.Config{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Attempt("s", keyhook.Delivered, time.Millisecond)
			m.Settled("r", "s", keyhook.Delivered, time.Millisecond)
		}
	})
}
