package backlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keyhook"
)

// Filter says which dead letters or owed deliveries are meant: those that meet
// every field that is set. The zero value means all.
type Filter struct {
	Rules []string `json:"rule,omitempty"` // any of them, as in the other lists
	Sends []string `json:"send,omitempty"`
	Sinks []string `json:"sink,omitempty"`
	// KeyPrefix is what the keys begin with; KeyPrefixBase64 takes its place where
	// that is not UTF-8.
	KeyPrefix       string `json:"key_prefix,omitempty"`
	KeyPrefixBase64 []byte `json:"key_prefix_base64,omitempty"`
	// Reasons are those of dead letters; nothing that is owed has one.
	Reasons []string `json:"reason,omitempty"`
	// Error is a part of the error, in upper or lower case as it stands.
	Error string `json:"error,omitempty"`
	// Since and Until bound the time at which a dead letter failed, or an owed
	// delivery was admitted: not before Since, and before Until.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// MinRevision and MaxRevision bound the revision of the change, both included;
	// 0 is no bound.
	MinRevision int64 `json:"min_revision,omitempty"`
	MaxRevision int64 `json:"max_revision,omitempty"`
}

// IsZero reports whether f means everything.
func (f *Filter) IsZero() bool {
	return len(f.Rules)+len(f.Sends)+len(f.Sinks)+len(f.Reasons) == 0 &&
		f.KeyPrefix == "" && len(f.KeyPrefixBase64) == 0 && f.Error == "" &&
		f.Since.IsZero() && f.Until.IsZero() && f.MinRevision == 0 && f.MaxRevision == 0
}

// Check returns what is wrong with f: bounds that nothing can lie between.
func (f *Filter) Check() error {
	switch {
	case f.KeyPrefix != "" && len(f.KeyPrefixBase64) > 0:
		return errors.New("two key prefixes")
	case f.MinRevision < 0 || f.MaxRevision < 0:
		return errors.New("a revision below 0")
	case f.MaxRevision > 0 && f.MinRevision > f.MaxRevision:
		return fmt.Errorf("no revision lies between %d and %d", f.MinRevision, f.MaxRevision)
	case !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until):
		return fmt.Errorf("no time lies between %s and %s", f.Since.Format(time.RFC3339), f.Until.Format(time.RFC3339))
	}
	return nil
}

// letter reports whether a dead letter is meant.
func (f *Filter) letter(l *keyhook.DeadLetter) bool {
	return among(f.Reasons, string(l.Reason)) && f.matches(l.Delivery, l.Error, l.FailedAt)
}

// owed reports whether an owed delivery is meant.
func (f *Filter) owed(d *keyhook.Delivery) bool {
	return len(f.Reasons) == 0 && f.matches(d, d.Retry.Error, d.Admitted)
}

func (f *Filter) matches(d *keyhook.Delivery, text string, at time.Time) bool {
	prefix := f.KeyPrefixBase64
	if f.KeyPrefix != "" {
		prefix = []byte(f.KeyPrefix)
	}
	return among(f.Rules, d.Rule) && among(f.Sends, d.Send) && among(f.Sinks, d.Sink) &&
		bytes.HasPrefix(d.Event.Key, prefix) &&
		strings.Contains(text, f.Error) &&
		(f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until)) &&
		d.Event.Revision >= f.MinRevision && (f.MaxRevision == 0 || d.Event.Revision <= f.MaxRevision)
}

// among reports whether s is one of names; no names mean any.
func among(names []string, s string) bool { return len(names) == 0 || slices.Contains(names, s) }

// Selection says what a job is about: ids, a filter, or everything.
type Selection struct {
	IDs    []string `json:"ids,omitempty"` // of deliveries
	Filter `json:"filter,omitzero"`
	All    bool `json:"all,omitempty"` // with a filter: all that it means
}

// Check returns what is wrong with s: that it says nothing, or two things.
func (s *Selection) Check() error {
	switch {
	case len(s.IDs) == 0 && s.Filter.IsZero() && !s.All:
		return errors.New("nothing is selected")
	case len(s.IDs) > 0 && !s.Filter.IsZero():
		return errors.New("both ids and a filter are given")
	case len(s.IDs) > 0 && s.All:
		return errors.New("both ids and all are given")
	}
	return s.Filter.Check()
}

// letter reports whether a dead letter is selected.
func (s *Selection) letter(l *keyhook.DeadLetter) bool {
	return among(s.IDs, l.Delivery.ID) && s.Filter.letter(l)
}

// owed reports whether an owed delivery is selected.
func (s *Selection) owed(d *keyhook.Delivery) bool {
	return among(s.IDs, d.ID) && s.Filter.owed(d)
}
