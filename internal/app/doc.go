// Package app puts keyhook together and runs it. It is the only place that
// knows every implementation.
//
//	Load ──▶ Plan ──▶ Run
//
//	Run:  store ─▶ dispatcher ─▶ admin ─▶ etcd client ─▶ identity ─▶ watch
//	        │          │
//	        │          └ what is owed goes out from here on, whether or not
//	        │            etcd answers
//	        └ an error up to here ends the run, but for a full disk: it waits for
//	          room, and the admin address says so. From here on trouble with
//	          etcd makes it unready, and it stays up
//
// A run stops in the order in which work flows, so that nothing is taken in
// that nobody will finish:
//
//	intake ─▶ dispatcher ─▶ sinks ─▶ etcd client ─▶ admin ─▶ store
//	(watch,   (grace for what
//	 reload)   is in flight, last commit)
//
// The rules can change while it runs, all or nothing. A file that is gone, empty
// or shorter than before counts once it has been so for a while: a range that no
// rule wants any more loses its position for good.
//
//	             files changed, SIGHUP
//	running ──────────────────────────▶ loading ──problem──▶ stale (the running
//	   ▲                                   │                  rules go on)
//	   │                                   │ fine               │
//	   └───────── new sinks, then new rules, then new ranges ◀──┘ files changed
//
// Commands that are given beside a run find it by what it has announced in the
// data directory: [Reach], [Audit], [CompareRunning] and [Health]. Where none runs,
// the first two work on the directory.
package app
