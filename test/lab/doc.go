// Package lab runs the real things in processes of their own: etcd, alone or as a
// cluster of three behind proxies, and keyhook as it is released. Tests start, stop and kill them, and look at them from
// outside only: by their exit codes, their logs, their HTTP addresses and what
// the kernel tells of them.
//
// A process never outlives its test, nor the test's own process where the
// kernel can see to that. Its log is part of the output of a test that fails.
package lab
