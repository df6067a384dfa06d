package backlog

import (
	"time"

	"keyhook/dispatcher"
)

// Sink is the state of a sink, for those who look after it.
type Sink struct {
	Name string `json:"name"`
	// Configured: whether the rule files define it. Absent where that is not
	// known, because no process runs.
	Configured *bool `json:"configured,omitempty"`

	Owed         int64      `json:"owed"`
	OldestOwedAt *time.Time `json:"oldest_owed_at,omitempty"`
	DeadLetters  int64      `json:"dead_letters"`
	InFlight     int        `json:"in_flight"`

	Paused      bool       `json:"paused"` // by somebody, until somebody resumes it
	PausedSince *time.Time `json:"paused_since,omitempty"`

	Held       bool       `json:"held"` // it asked for nothing more
	HeldReason string     `json:"held_reason,omitempty"`
	HeldSince  *time.Time `json:"held_since,omitempty"`

	Breaker      string     `json:"breaker,omitempty"` // "closed", "open" or "half-open"
	BreakerUntil *time.Time `json:"breaker_until,omitempty"`

	LastError       string     `json:"last_error,omitempty"`
	LastErrorAt     *time.Time `json:"last_error_at,omitempty"`
	LastDeliveredAt *time.Time `json:"last_delivered_at,omitempty"`
}

func sinkOf(s *dispatcher.SinkStatus, live bool) Sink {
	v := Sink{
		Name: s.Name, Owed: s.Owed, OldestOwedAt: at(s.OldestAdmitted), DeadLetters: s.DeadLetters, InFlight: s.InFlight,
		Paused: s.Paused, PausedSince: at(s.PausedSince),
		Held: s.Held, HeldReason: s.Reason, HeldSince: at(s.HeldSince),
		LastError: s.LastError, LastErrorAt: at(s.LastErrorAt), LastDeliveredAt: at(s.LastDeliveredAt),
	}
	if live {
		configured := s.Configured
		v.Configured = &configured
		v.Breaker, v.BreakerUntil = s.Breaker, at(s.BreakerUntil)
	}
	return v
}

// at returns t for a field that is left out where it is unknown.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
