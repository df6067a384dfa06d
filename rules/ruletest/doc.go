// Package ruletest runs tests of rules: files that say what etcd holds, what
// changes and when, how the sinks answer, and what must arrive, and must not.
//
//	steps ──▶ etcd model ──▶ rules.Set ──▶ dispatcher.Simulator ──▶ arrivals, dead letters
//	          revisions,     the real      the real lanes and            │
//	          leases         rules         retries, virtual time         ▼
//	                                       ▲                        expectations
//	                 scripted answers ─────┘
//
// Nothing is connected to, nothing is waited for, and nothing depends on the
// machine: a test that passes once passes always. The events have the revisions,
// versions and leases that etcd would give them, and the previous values that
// keyhook would find.
//
// Tests can be written by it: [File.Update] puts in the bodies that arrived, and
// [Runner.Record] makes a test of changes that were seen. [Runner.Coverage] says
// what the tests have seen of the rules.
//
// Secrets are not looked up: a test runs where they are not known.
package ruletest
