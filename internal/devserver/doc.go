// Package devserver brings an etcd and a NATS server into the process, for
// `keyhook dev`: one member each, on loopback, in directories that are thrown
// away.
//
// The servers are most of the binary's size and nothing that a production
// process should carry. Built with the tag nodev the package is there, but
// [Start] and [StartNATS] answer [ErrLeftOut] and no server is linked.
package devserver

import "errors"

// ErrLeftOut means that this binary was built without development servers.
var ErrLeftOut = errors.New("this build of keyhook has no development servers (built with the tag nodev)")
