// Package devserver brings an etcd server into the process, for `keyhook dev`:
// one member, on loopback, in a directory that is thrown away.
//
// The server is most of the binary's size and nothing that a production process
// should carry. Built with the tag nodev the package is there, but [Start]
// answers [ErrLeftOut] and no etcd server is linked.
package devserver

import "errors"

// ErrLeftOut means that this binary was built without development servers.
var ErrLeftOut = errors.New("this build of keyhook has no development servers (built with the tag nodev)")
