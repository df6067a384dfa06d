//go:build race

package checkpointtest

// many is how many deliveries are many: the race detector makes each ten times
// as slow.
const many = 10_000
