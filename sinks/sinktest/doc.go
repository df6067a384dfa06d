// Package sinktest is the suite that every [sinks.Sink] passes. A backend writes
// a [Harness], which opens a sink beside a receiver of its protocol, and calls
// [Run] from a test:
//
//	func TestConformance(t *testing.T) {
//		sinktest.Run(t, sinktest.Harness{Open: open})
//	}
//
// The suite holds a sink to what the contract says: an acknowledgement is
// success and nothing else is; each way to fail has its kind, and says how far it
// came; errors stand in
// the order of the deliveries; a context that ends cuts an attempt off at once
// and spends none; deliveries reach the receiver unharmed and in parallel;
// nothing of them is kept; no secret shows; no goroutine is left.
//
// To see that its errors hold no secrets, the receiver puts all of Rig.Secrets
// into whatever its protocol lets it say when it refuses something.
package sinktest
