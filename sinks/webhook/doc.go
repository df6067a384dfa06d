// Package webhook delivers messages by HTTP POST, signed as Standard Webhooks
// 1.0.0 asks.
//
// One attempt is at most one request whose bytes were written: what the
// transport repeats by itself is only a request of which nothing had left. One
// deadline, Config.Timeout, spans resolving, connecting, TLS, the request, the
// answer and its body. The status line decides; the body of the answer is read
// so that the connection can be used again, and for a short excerpt in errors:
// what is wrong with the body of a 2xx does not make it a failure.
//
//	2xx                                          acknowledged
//	400 405 406 413 414 415 422 431 501          rejected: a dead letter
//	410                                          hold: the sink is held
//	Retry-After (any other status), 429          throttled
//	anything else, 3xx and network errors        retry
//	the caller's context ended, no status yet    interrupted
//
// RetryOn and DeadOn move statuses between the lists.
//
// The URL comes from a configuration that is trusted, so loopback and private
// networks are fine. Link-local addresses and the metadata services of clouds
// are refused when a connection is made, after names were resolved, however the
// address is written. No proxy is used, whatever the environment says: a proxy
// would connect on keyhook's behalf, out of reach of that check. HTTP/1.1 only:
// a delivery has a connection of its own while it lasts, so that a reset or a
// stalled connection costs one delivery and not all of them.
//
// No error holds a secret: texts that come from the receiver or from the
// network are searched for the secrets of the configuration (header values,
// signing secrets, and of the URL the user, path and query) before they are
// shortened.
package webhook
