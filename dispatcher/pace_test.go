package dispatcher

import (
	"testing"
	"time"
)

func TestIntakePausesForAStretchAndNotLonger(t *testing.T) {
	var p pace
	now := time.Unix(1_700_000_000, 0)
	step := func(after time.Duration, wanted, saturated, want bool) {
		t.Helper()
		now = now.Add(after)
		if hold, _ := p.holds(now, wanted, saturated); hold != want {
			t.Fatalf("%v: wanted %v, saturated %v: holds %v", now.Sub(time.Unix(1_700_000_000, 0)), wanted, saturated, hold)
		}
	}
	step(0, true, false, false) // a sink has too little to do
	step(0, true, true, true)
	step(0, false, true, true) // nobody wants to be admitted just now, but soon
	step(200*time.Millisecond, true, true, true)
	step(100*time.Millisecond, true, true, false) // the batch has waited long enough
	p.admitted(now)
	step(0, true, true, true)
	step(29*time.Second, true, true, false)
	p.admitted(now)
	step(500*time.Millisecond, true, false, false)
	step(0, true, true, true)
	p.admitted(now)
	step(time.Second, true, true, false) // the stretch has lasted long enough: go on, onto the disk
	step(time.Minute, true, true, false)
	step(500*time.Millisecond, false, true, false)
	step(time.Second, false, false, false) // nothing was wanted for a second: the stretch is over
	step(0, true, true, true)
}
