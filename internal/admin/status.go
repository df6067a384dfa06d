package admin

import (
	"time"

	"keyhook/internal/compare"
)

// Status is the state of a process, as /api/v1/status shows it. It holds no
// secret.
type Status struct {
	Version       string    `json:"version"`
	Instance      string    `json:"instance,omitempty"` // tells processes apart
	StartedAt     time.Time `json:"started_at"`
	UptimeSeconds float64   `json:"uptime_seconds"` // filled in by the server

	Ready bool `json:"ready"`
	// Reasons say why it is not ready, in plain words.
	Reasons []string `json:"reasons"`

	Source    string `json:"source"`
	ClusterID string `json:"cluster_id,omitempty"` // hexadecimal, as etcdctl writes it
	Epoch     uint64 `json:"epoch"`

	Etcd   Etcd    `json:"etcd"`
	Ranges []Range `json:"ranges"`
	Rules  Rules   `json:"rules"`
	Sinks  []Sink  `json:"sinks"`
	Commit Commit  `json:"commit"`
	Memory Memory  `json:"memory"`
}

// Etcd is what is known of etcd; 0 is unknown.
type Etcd struct {
	Revision          int64 `json:"revision"`
	CompactedRevision int64 `json:"compacted_revision"`
}

// Range is how far the reading of one range has come.
type Range struct {
	Range string `json:"range"`
	// Position is the last revision that was admitted whole, Admitted how many
	// changes of the next one were.
	Position int64  `json:"position"`
	Admitted int    `json:"admitted,omitempty"`
	State    string `json:"state"` // "starting", "seeding", "repairing", "watching", "retrying" or "halted"
	Ready    bool   `json:"ready"`
	Error    string `json:"error,omitempty"`
	Hint     string `json:"hint,omitempty"`
	// NearCompaction: so far behind that etcd's next compaction may overtake it.
	NearCompaction bool `json:"near_compaction,omitempty"`
	// Gap is the last stretch of history that could not be read, since the start
	// of the process.
	Gap *Gap `json:"gap,omitempty"`
}

// Gap is a stretch of history that was repaired by comparing.
type Gap struct {
	Reason  string    `json:"reason"` // "compacted", "rolled_back" or "diverged"
	From    int64     `json:"from"`   // the first revision that was not read
	To      int64     `json:"to"`     // the revision that the range was compared at
	Created int       `json:"created"`
	Changed int       `json:"changed"`
	Deleted int       `json:"deleted"`
	At      time.Time `json:"at"`
}

// Rules is what the rule files gave.
type Rules struct {
	Count    int       `json:"count"`
	LoadedAt time.Time `json:"loaded_at"`
	// Stale: the files could not be loaded since, and Error says why.
	Stale bool   `json:"stale"`
	Error string `json:"error,omitempty"`
	// Changes are what the last reload has changed, at LoadedAt.
	Changes *compare.Changes `json:"changes,omitempty"`
}

// Sink is what one sink is owed.
type Sink struct {
	Name string `json:"name"`
	// Configured: false for a sink that is gone from the files and is still owed
	// something.
	Configured      bool       `json:"configured"`
	Owed            int64      `json:"owed"`
	OldestOwedAt    *time.Time `json:"oldest_owed_at,omitempty"`
	OldestOwedAge   float64    `json:"oldest_owed_seconds"` // filled in by the server
	DeadLetters     int64      `json:"dead_letters"`
	InFlight        int        `json:"in_flight"`
	Waiting         int64      `json:"waiting"` // for their time (for, every): not owed yet
	Held            bool       `json:"held"`
	HeldReason      string     `json:"held_reason,omitempty"`
	HeldSince       *time.Time `json:"held_since,omitempty"`
	Paused          bool       `json:"paused"`
	PausedSince     *time.Time `json:"paused_since,omitempty"`
	Breaker         string     `json:"breaker,omitempty"` // "closed", "open" or "half-open"
	BreakerUntil    *time.Time `json:"breaker_until,omitempty"`
	LastError       string     `json:"last_error,omitempty"`
	LastErrorAt     *time.Time `json:"last_error_at,omitempty"`
	LastDeliveredAt *time.Time `json:"last_delivered_at,omitempty"`
}

// Commit is the state of the checkpoint.
type Commit struct {
	Sequence uint64     `json:"sequence"` // of the last durable commit
	LastAt   *time.Time `json:"last_at,omitempty"`
	// Stalled: commits fail or have fallen behind; intake and sending wait.
	Stalled bool   `json:"stalled"`
	Error   string `json:"error,omitempty"`
}

// Memory is what the process uses, in bytes.
type Memory struct {
	Deliveries       int64  `json:"deliveries"` // held in memory
	DeliveriesBudget int64  `json:"deliveries_budget"`
	Heap             uint64 `json:"heap"` // filled in by the server
}

// At returns t for a field that is left out of the page where it is unknown.
func At(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// derive fills in what follows from the rest, and empty lists for missing ones:
// programs want [] and not null.
func (s *Status) derive(now time.Time, heap uint64) {
	if !s.StartedAt.IsZero() {
		s.UptimeSeconds = max(now.Sub(s.StartedAt), 0).Seconds()
	}
	s.Memory.Heap = heap
	if s.Reasons == nil {
		s.Reasons = []string{}
	}
	if s.Ranges == nil {
		s.Ranges = []Range{}
	}
	sinks := make([]Sink, len(s.Sinks))
	copy(sinks, s.Sinks)
	for i := range sinks {
		if at := sinks[i].OldestOwedAt; at != nil {
			sinks[i].OldestOwedAge = max(now.Sub(*at), 0).Seconds()
		}
	}
	s.Sinks = sinks
}
