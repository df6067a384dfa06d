package lab

import (
	"testing"
	"time"
)

// What had succeeded when keyhook was asked is durable with the second commit
// after the one that was durable then, and not before.
func TestWhatIsDurableIsKnownTwoCommitsLater(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	var c commits
	for i, step := range []struct {
		sequence uint64
		durable  time.Time
	}{
		{7, time.Time{}}, {7, time.Time{}}, {8, time.Time{}}, {9, at(1)}, {9, at(1)}, {10, at(2)}, {13, at(5)}, {15, at(6)},
	} {
		if c.says(at(i), step.sequence); !c.durable.Equal(step.durable) {
			t.Errorf("statement %d: durable is what was there at %v, not %v", i, c.durable, step.durable)
		}
	}
	if n := len(c.heard); n > 2 {
		t.Errorf("%d statements are kept", n)
	}
}
