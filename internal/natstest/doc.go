// Package natstest runs NATS servers inside of tests, on a loopback port, quiet.
// A server can be stopped and started again on the same port and data, and break
// the connections of those that it is a test for.
package natstest
