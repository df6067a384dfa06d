// Package cli is keyhook's command line: what is typed, what is printed, and
// with which code it ends.
//
//	0  fine; also a run that a signal ended cleanly
//	1  failed; also a run that a second signal cut off
//	2  wrong usage or configuration
//
// Results go to stdout, for people or, with --output json, for programs.
// Everything else goes to stderr.
package cli
