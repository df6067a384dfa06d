//go:build race

package watch

// leased is how many keys end with a lease: with the race detector each takes ten
// times as long.
const leased = 20_000
