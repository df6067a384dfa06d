package checkpointtest

import (
	"context"
	"errors"
	"testing"

	"keyhook/checkpoint"
)

func TestAFailedCommitLeavesNothingBehindAndAnUnknownOneEverything(t *testing.T) {
	m := NewMemory()
	failure := errors.New("no")

	m.SetHooks(Hooks{BeforeCommit: func(context.Context, *checkpoint.Commit) error { return failure }})
	if err := m.Commit(t.Context(), &checkpoint.Commit{Term: 1, Sequence: 1}); !errors.Is(err, failure) {
		t.Fatalf("commit = %v, want the error of the hook", err)
	}
	if s, err := m.Load(t.Context(), 0); err != nil || s.Sequence != 0 {
		t.Fatalf("sequence %d after a refused commit (%v)", s.Sequence, err)
	}

	m.SetHooks(Hooks{AfterCommit: func(context.Context, *checkpoint.Commit) error { return failure }})
	if err := m.Commit(t.Context(), &checkpoint.Commit{Term: 1, Sequence: 1}); !errors.Is(err, failure) {
		t.Fatalf("commit = %v, want the error of the hook", err)
	}
	if s, err := m.Load(t.Context(), 0); err != nil || s.Sequence != 1 {
		t.Fatalf("sequence %d after a commit of unknown outcome (%v)", s.Sequence, err)
	}
}
