// Package archtest holds keyhook's shape: which package may import which, what
// of the outside world each of them knows, and how long a file may become. It
// has tests only; they ask the go command, so that they see what the compiler
// sees.
//
//	internal/cli ──▶ internal/app ──▶ watch, rules, dispatcher
//	                     │                        │
//	                     ▼                        ▼
//	 sinks/webhook, sinks/nats, checkpoint/disk ──▶ sinks, checkpoint ──▶ keyhook
//
// A new package needs a line in the table of layers_test.go: where it stands is
// a decision.
package archtest
