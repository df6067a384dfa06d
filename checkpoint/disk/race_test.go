//go:build race

package disk

// The race detector makes everything ten times as slow, and finds in a part of
// the cases what it would find in all: those are for the build without it.
const (
	everyNth    = 7  // write that fails, or crashes
	modelChecks = 25 // histories
)
