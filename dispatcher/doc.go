// Package dispatcher takes what the rules owe, sends it, and keeps the
// checkpoint. It promises:
//
//   - Nothing that was admitted is forgotten: a delivery ends as delivered, as a
//     dead letter, superseded or cancelled where its rule asks for that, or
//     purged by somebody. Until then it is owed, or waits for its time, and
//     survives a crash. Dead letters are kept until they are replayed,
//     discarded, or the retention drops them.
//   - Within (rule, send, key) deliveries go out in the order of admission,
//     retries included. Keys do not wait for each other, rules and sinks neither.
//   - A crash repeats at most what succeeded since the last commit, under the
//     same id. A clean stop repeats only what was cut off by the end of the grace.
//   - A sink that is paused, held (410) or that seems to be down (an open breaker)
//     is sent nothing; what it is owed stays owed. A pause and a hold outlive the
//     process.
//   - Memory is bounded: beyond the budget deliveries live in the store alone,
//     and an owed key costs about 60 bytes, a dead letter 24.
//
// Decisions are made by a state machine without clock, randomness or I/O; one
// goroutine feeds it and carries out what it says.
//
//	                 ┌──────────────── Dispatcher.Run ────────────────┐
//	Admit ──────────▶│ machine: admit · result · loaded · tick · cut  │
//	                 └──┬──────────▲──┬──────────▲──┬──────────▲──────┘
//	               send │   result │  │ load     │  │ commit   │ durable
//	                    ▼          │  ▼          │  ▼          │
//	                  workers ─────┘ loader ─────┘ committer ──┘
//
// A lane is what one send of one rule owes to one sink: a set of chains, one
// for each key. Only the head of a chain is ever sent.
//
//	        admit                      slot and rate free
//	(none) ───────▶ ready ────────────────────────────────▶ sending
//	                 ▲ ▲                                      │ │
//	                 │ │ next of the chain    settled or dead │ │ failed
//	             due │ └──────────────────────────────────────┘ │
//	                 └────────────── waiting ◀──────────────────┘
//
//	ready, waiting ──no room──▶ cold ──due, room──▶ loading ──▶ ready
//
//	dead, purged ──▶ parked ──what was given up is durable──▶ ready, waiting, cold
//
// A cold chain is on disk only; what stays in memory of it is its place in the
// index of due times.
//
// Deliveries with a [keyhook.Timing] come to their chain only when they are due;
// until then they are in a timed lane beside it, durable, and not owed.
//
//	        for, or within every          due; for: and read up to then
//	(none) ───────────────────────▶ held ──────────────────────────────▶ admitted to its
//	   ▲                            │  ▲                                  chain, which
//	   │ cancelled, or the quiet    │  │ a newer one (every)              leaves a marker
//	   └────────────────────────────┘  └───────────────────────────────────────┘
package dispatcher
