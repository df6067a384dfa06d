// Package certtest makes certificates for tests: an authority of their own, and
// what it issues for servers and clients on 127.0.0.1. All are good for a day.
package certtest
