// Package keyhook is the vocabulary of keyhook: what a change in etcd is, where
// the reading of etcd's history stands, what is owed to a sink, and what became
// of it. It imports the standard library only and holds no behaviour beyond
// what these words mean.
//
// The path of one change reads as the folders do:
//
//	etcd ──▶ watch ──▶ rules ──▶ dispatcher ──▶ sinks ──▶ webhook, NATS
//	           ▲                     │  ▲
//	           └── mirror ───────────▼──┘
//	                            checkpoint
//
// docs/architecture.md tells the whole story.
package keyhook
