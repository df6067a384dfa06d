// Package admin is keyhook's HTTP server for operators:
//
//	/healthz        200 while the process lives and its main loop moves
//	/readyz         200, or 503 with one reason a line
//	/metrics        Prometheus
//	/api/v1/status  the state of everything as JSON
//
// /healthz and /readyz never need a token; the others need
// "Authorization: Bearer <token>" where one is configured. It knows nothing of
// the parts that it tells about: the caller fills in a [Status]. Everything is
// read-only, and no page holds a secret.
package admin
