// Package admin is keyhook's HTTP server for operators, and a client of it:
//
//	/healthz        200 while the process lives and its main loop moves
//	/readyz         200, or 503 with one reason a line
//	/metrics        Prometheus
//	/api/v1/status  the state of everything as JSON
//
//	GET  /api/v1/dead-letters         one object a line; ?sink=…&reason=… selects
//	GET  /api/v1/dead-letters/ID      the whole story
//	POST /api/v1/dead-letters/replay  a step of a job, see [backlog.Job]
//	POST /api/v1/dead-letters/purge   as replay
//	GET  /api/v1/owed                 one object a line
//	POST /api/v1/owed/purge           as replay
//	GET  /api/v1/sinks                the state of every sink
//	POST /api/v1/sinks/pause          {"sink": "NAME"}
//	POST /api/v1/sinks/resume         {"sink": "NAME"}
//
//	POST /api/v1/audit                {"repair": false}; progress, then what differs
//	POST /api/v1/compare              what another configuration would change
//
// /healthz and /readyz never need a token; the others need
// "Authorization: Bearer <token>" where one is configured. What shows payloads
// or changes something is refused without a token if others than this machine
// can connect, and never answers a page of another origin in a browser on this
// machine. No page holds a secret.
//
// It knows nothing of the parts that it tells about: the caller fills in a
// [Status], and brings a [backlog.Desk], an [Auditor] and a [Comparer].
package admin
