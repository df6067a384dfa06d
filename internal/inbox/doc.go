// Package inbox is an HTTP receiver of webhooks for `keyhook dev` and for tests:
// it records every request, answers as a script says, and lets others wait for
// what is to arrive. It verifies nothing by itself.
//
// A request is recorded when its answer is decided, right before the answer is
// sent. The newest Config.Keep requests are kept with header and body; counts
// cover all of them.
package inbox
