//go:build race

package rules

// raceEnabled: the race detector makes sync.Pool forget things on purpose.
const raceEnabled = true
