// Package examples holds rule sets that run as they stand, one a directory.
// `keyhook dev` plays the quickstart.
package examples

import "embed"

// Quickstart is the directory quickstart: a keyhook.yaml with its rules.
//
//go:embed quickstart
var Quickstart embed.FS
