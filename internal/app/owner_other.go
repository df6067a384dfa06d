//go:build !unix

package app

// mayOpen has nothing to say where files have no numbered owners.
func mayOpen(string) error { return nil }
