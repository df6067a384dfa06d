//go:build nodev

package devserver

import "context"

// Included reports whether this binary can start development servers.
const Included = false

// Etcd is a server that this build cannot start.
type Etcd struct{}

// Start returns ErrLeftOut.
func Start(context.Context) (*Etcd, error) { return nil, ErrLeftOut }

// Endpoint returns nothing.
func (*Etcd) Endpoint() string { return "" }

// Close does nothing.
func (*Etcd) Close() error { return nil }

// NATS is a server that this build cannot start.
type NATS struct{}

// StartNATS returns ErrLeftOut.
func StartNATS(context.Context) (*NATS, error) { return nil, ErrLeftOut }

// URL returns nothing.
func (*NATS) URL() string { return "" }

// Close does nothing.
func (*NATS) Close() error { return nil }
