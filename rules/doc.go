// Package rules turns rule files into an immutable, compiled [Set], and a change
// into the deliveries that it owes.
//
//	files ──Load──▶ Set ──EvaluateBatch(events)──▶ deliveries, failed conditions
//	         │
//	         └──▶ problems: every one of every file, with path:line:column
//
// [Load] is all or nothing. What can be known from the files is an error there:
// an undefined sink, a capture that no pattern has, a typo in a field of the
// event, a condition that is not a boolean.
//
// [Set.EvaluateBatch] renders messages at once, so that a later reload cannot
// change a pending retry. It is deterministic in what it decides: whether a rule
// matches, and where it routes to, never depends on the clock. How long a
// delivery is to wait, and which belong together, it only says. Its outcomes are:
//
//	condition      body, headers, subject   what comes of it
//	─────────      ──────────────────────   ────────────────
//	false                                   nothing
//	an error                                a counted non-match
//	true           rendered                 a delivery with its message
//	true           an error                 a rejected delivery, reason "render"
//	over a limit   over a limit             a rejected delivery, reason "limit"
//	a panic        a panic                  a rejected delivery, reason "panic"
//
// [Set.EvaluateGap] tells rules of gaps in the history, [Set.Again] renders what
// was given up with the rules of today, and a [Tracer] shows why a rule matches or
// not. [LintOptions] ask for a closer look at what rules mean.
//
// A Set holds no state that changes and may be used by any number of goroutines.
package rules
