package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Snapshot is the state of a process at one moment.
type Snapshot struct {
	Ready      bool
	RulesStale bool // the files could not be loaded; older rules run on
	// Revision is etcd's, Compacted its compacted one, as far as known.
	Revision, Compacted int64
	Ranges              []RangeState
	Sinks               []SinkState
	MemoryBytes         int64  // of deliveries held in memory
	DiskFree            *int64 // bytes, where the data lies; nil if unknown
}

// RangeState is how far the reading of one range has come.
type RangeState struct {
	Range    string
	Position int64 // the last revision admitted whole; 0 before the first
	// NearCompaction: so far behind that etcd's compaction may overtake it.
	NearCompaction bool
}

// SinkState is what one sink is owed.
type SinkState struct {
	Name        string
	Owed        int64
	Oldest      time.Time // when the oldest of what is owed was admitted; zero if nothing is
	Waiting     int64     // for their time (for, every): not owed yet
	DeadLetters int64
	InFlight    int
	Held        bool
	Paused      bool
	BreakerOpen bool
}

// Follow makes the gauges show what snapshot returns. It is called for each
// scrape, possibly several times at once. Before the first call there are no
// gauges.
func (m *Metrics) Follow(snapshot func() Snapshot) { m.snapshot.Store(&snapshot) }

// gauges reads one snapshot for each scrape.
type gauges struct {
	metrics *Metrics
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	owed        = gauge("keyhook_owed", "Deliveries that are owed.", "sink")
	oldestOwed  = gauge("keyhook_oldest_owed_seconds", "Age of the oldest delivery that is owed; 0 if nothing is.", "sink")
	waiting     = gauge("keyhook_waiting", "Matches that wait for their time, for or every: they are not owed yet, and may never be.", "sink")
	deadLetters = gauge("keyhook_dead_letters", "Dead letters that are kept.", "sink")
	inFlight    = gauge("keyhook_in_flight", "Attempts under way.", "sink")
	held        = gauge("keyhook_sink_held", "1 while the sink is held: its receiver asked for nothing more.", "sink")
	paused      = gauge("keyhook_sink_paused", "1 while the sink is paused by keyhook sink pause.", "sink")
	breakerOpen = gauge("keyhook_breaker_open", "1 while the sink's circuit breaker is open or half-open: the sink seems to be down.", "sink")
	position    = gauge("keyhook_position_revision", "Last revision of which every change in the range was admitted.", "range")
	revision    = gauge("keyhook_etcd_revision", "Revision of etcd, as far as seen.")
	headroom    = gauge("keyhook_compaction_headroom_revisions", "Revisions between etcd's compaction and the position that is furthest behind; below 0 history is lost.")
	near        = gauge("keyhook_near_compaction", "1 while the range is so far behind that etcd's next compaction may overtake it.", "range")
	rulesStale  = gauge("keyhook_rules_stale", "1 while the rule files could not be loaded and older rules run on.")
	ready       = gauge("keyhook_ready", "1 while every later change will be delivered.")
	memory      = gauge("keyhook_memory_bytes", "Size of the deliveries held in memory.")
	diskFree    = gauge("keyhook_disk_free_bytes", "Free space of the file system that holds the data directory.")
)

func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		owed, oldestOwed, waiting, deadLetters, inFlight, held, paused, breakerOpen, position, revision, headroom, near, rulesStale, ready, memory, diskFree,
	} {
		ch <- d
	}
}

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	snapshot := g.metrics.snapshot.Load()
	if snapshot == nil {
		return
	}
	s := (*snapshot)()
	now := time.Now()
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(d, err)
		}
		ch <- m
	}
	for _, k := range s.Sinks {
		age := 0.0
		if !k.Oldest.IsZero() {
			age = max(now.Sub(k.Oldest), 0).Seconds()
		}
		send(owed, float64(k.Owed), k.Name)
		send(oldestOwed, age, k.Name)
		send(waiting, float64(k.Waiting), k.Name)
		send(deadLetters, float64(k.DeadLetters), k.Name)
		send(inFlight, float64(k.InFlight), k.Name)
		send(held, number(k.Held), k.Name)
		send(paused, number(k.Paused), k.Name)
		send(breakerOpen, number(k.BreakerOpen), k.Name)
	}
	behind := int64(0)
	for _, r := range s.Ranges {
		send(position, float64(r.Position), r.Range)
		send(near, number(r.NearCompaction), r.Range)
		if r.Position > 0 && (behind == 0 || r.Position < behind) {
			behind = r.Position
		}
	}
	if behind > 0 {
		send(headroom, float64(behind-s.Compacted))
	}
	send(revision, float64(s.Revision))
	send(rulesStale, number(s.RulesStale))
	send(ready, number(s.Ready))
	send(memory, float64(s.MemoryBytes))
	if s.DiskFree != nil {
		send(diskFree, float64(*s.DiskFree))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
