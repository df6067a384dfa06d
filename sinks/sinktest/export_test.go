package sinktest

import "time"

// SetPatience sets how long the suite waits for what has to happen at once.
func SetPatience(d time.Duration) { patience = d }
