//go:build !race

package checkpointtest

const many = 100_000
