// Package etcdtest runs etcd servers inside of tests: one member each, with fast
// ticks, without fsync, quiet, on a unix socket of their own or, with TLS, on a
// loopback port. A server can be stopped and started again on the same data,
// have its data saved and brought back, which rolls its history back, and have
// the connections of its clients cut. Where the environment names a server, that
// one is run in place of the embedded one: see [ServerVariable].
package etcdtest
