//go:build !race

package watch

// leased is how many keys end with a lease.
const leased = 100_000
