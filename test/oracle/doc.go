// Package oracle says whether what arrived at a receiver is what etcd's history
// owes it.
//
// The history does not come from keyhook or from a watch: it is read from etcd's
// own database file ([ReadHistory]), revision by revision. Against it [Check]
// holds every attempt that a receiver saw, and reports in the words that etcd
// uses for the guarantees of a watch:
//
//	Faithful   nothing arrived that etcd does not hold: key, revision, value,
//	           version and what the key held before
//	Reliable   every change was delivered
//	Ordered    no attempt at a change of a key before the ones ahead of it succeeded
//	Unique     one id for each change, the same at every attempt
//	Resumable  what was delivered again had succeeded just before a kill
package oracle
