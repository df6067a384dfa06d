// Package test holds the black-box tests: keyhook as it is released, in a
// process of its own, between a real etcd process and a receiver that fails on
// demand. They kill keyhook, stop it, starve it, and feed it nonsense; what must
// have arrived is told by etcd's own history.
//
// Their short forms are part of `go test ./...`. KEYHOOK_TEST_LONG asks for the
// long ones (`make crash`): hundreds of kills, 200,000 changes behind a dead
// sink. KEYHOOK_TEST_SEED repeats what a run has drawn at random.
//
//	lab         the processes
//	load        what is written to etcd
//	receiver    the webhook
//	oracle      etcd's history, and what it owes
//	servers     etcd itself, in modules of their own
//	bench       how fast it is
//	robustness  a cluster of three etcd processes, and all that can befall it
package test
