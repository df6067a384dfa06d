package backlog

import (
	"context"
	"errors"
	"iter"

	"keyhook"
	"keyhook/dispatcher"
)

// Desk is where dead letters, owed deliveries and sinks are asked about. Its
// methods may be called by several goroutines at once.
type Desk interface {
	// DeadLetters yields the dead letters that f means, in the order in which they
	// were given up. What is given up meanwhile may be among them or not.
	DeadLetters(ctx context.Context, f Filter) iter.Seq2[Letter, error]
	// DeadLetter returns the story of a dead letter, of the newest one if there
	// are several of a delivery. [ErrUnknownID] if there is none.
	DeadLetter(ctx context.Context, id string) (*Story, error)
	// Replay does a step of a job: dead letters are owed again, behind what is
	// owed already of their keys.
	Replay(ctx context.Context, j Job) (*Step, error)
	// PurgeDeadLetters does a step of a job: dead letters are removed.
	PurgeDeadLetters(ctx context.Context, j Job) (*Step, error)

	// Owed yields the owed deliveries that f means, by rule, send and sink, then by
	// key, those of a key in their order. What becomes owed meanwhile may be among
	// them or not.
	Owed(ctx context.Context, f Filter) iter.Seq2[Owed, error]
	// PurgeOwed does a step of a job: owed deliveries are removed, and never sent.
	PurgeOwed(ctx context.Context, j Job) (*Step, error)

	// Sinks returns the state of every sink, by name.
	Sinks(ctx context.Context) ([]Sink, error)
	// Pause keeps everything that is owed to a sink, until Resume, over restarts
	// too. [ErrUnknownSink] if there is no such sink.
	Pause(ctx context.Context, sink string) error
	// Resume ends a pause, a hold that the sink asked for, and an open breaker.
	Resume(ctx context.Context, sink string) error
}

var (
	// ErrUnknownID means that no dead letter has the id.
	ErrUnknownID = errors.New("no dead letter has this id")
	// ErrUnknownSink means that there is no such sink, and nothing is kept of one.
	ErrUnknownSink = dispatcher.ErrUnknownSink
	// ErrStopped means that the process that was asked is stopping.
	ErrStopped = dispatcher.ErrStopped
)

// InvalidError is a job or a filter that makes no sense.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

func (e *InvalidError) Unwrap() error { return e.Err }

// Job is something to be done with all that is selected, step by step: the next
// step is the same job with the cursor of the last one.
type Job struct {
	Selection
	// Render makes the messages anew, with the rules of today. Letters that have
	// none are rendered in any case.
	Render bool `json:"render,omitempty"`
	// DryRun finds out what would be done.
	DryRun bool `json:"dry_run,omitempty"`
	// Max is how many are done in this step at most; 0: as many as a step takes.
	Max int `json:"max,omitempty"`
	// Cursor is where the step before has ended; empty for the first.
	Cursor string `json:"cursor,omitempty"`
}

// Step is what a step came to. It is durable.
type Step struct {
	// Total is how many there are, selected or not, for a measure of progress.
	Total   int64 `json:"total"`
	Seen    int   `json:"seen"`    // how many of them were looked at
	Matched int   `json:"matched"` // of these, how many are selected
	// Done is how many were sent again or removed; of a dry run, how many would
	// be. What is neither done nor failed has gone meanwhile.
	Done   int       `json:"done"`
	Groups []Group   `json:"groups,omitempty"` // of what was matched
	Found  []string  `json:"found,omitempty"`  // of the ids that were asked for
	Failed []Failure `json:"failed,omitempty"` // matched, and left as it is
	Cursor string    `json:"cursor,omitempty"` // of the next step; empty: there is none
}

// Group is how many of what was matched have the same names.
type Group struct {
	Rule   string         `json:"rule"`
	Send   string         `json:"send"`
	Sink   string         `json:"sink"`
	Reason keyhook.Reason `json:"reason,omitempty"` // of dead letters
	Count  int            `json:"count"`
}

// Failure is a dead letter that could not be sent again, and stays.
type Failure struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}
