// Package checkpoint says what keyhook makes durable, and what it asks of the
// places that keep it.
//
// A checkpoint states: every change up to these positions has been evaluated,
// and these deliveries are still owed. It changes by a [Commit], all of it or
// none of it, about ten times a second. What succeeds between two commits is
// never written; what is unsettled at a commit is.
//
//	admitted ──settled before the next commit──▶ (never written)
//	    │
//	    └─commit─▶ owed ──retry─▶ owed ──settled─▶ (removed)
//	                 └────────────────dead───────▶ dead letter
//
// [Store] keeps positions, owed deliveries and dead letters. [Mirror] keeps
// what each watched key holds; it can be rebuilt by reading etcd at a position,
// so a replicated store need not hold a copy of the keyspace. The disk backend
// implements both and commits them in one batch.
//
// Every record belongs to a shard. A commit carries the term of the shard's
// owner and a sequence number: a backend refuses an older term, and takes a
// sequence that it has already seen as done.
package checkpoint
