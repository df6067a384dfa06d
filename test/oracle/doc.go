// Package oracle says whether what arrived at a receiver is what etcd's history
// owes it.
//
// The history does not come from keyhook or from a watch: it is read from etcd's
// own database file ([ReadHistory]), revision by revision. Against it [Check]
// holds every attempt that a receiver saw, and reports in the words that etcd
// uses for the guarantees of a watch:
//
//	Faithful      nothing arrived that etcd does not hold: key, revision, value,
//	              version and what the key held before
//	Reliable      every change was delivered; where a gap was repaired, the
//	              receiver knows of every key what etcd held at its end
//	Atomic        no revision was delivered in part
//	Ordered       no attempt at a change of a key before the ones ahead of it
//	              succeeded, nor after one behind it did
//	Unique        one id for each change, the same at every attempt, made as
//	              documented
//	Resumable     what was delivered again had succeeded just before a kill
//	Bookmarkable  whatever lies behind a position that keyhook stated was
//	              delivered, or stated as owed
//
// The history may be that of an etcd which was restored from a snapshot
// ([Splice]). Then it begins anew where a restore took it back to, and holds for
// each key what the restore made of it.
package oracle
