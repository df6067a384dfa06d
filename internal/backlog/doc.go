// Package backlog lets people look at what could not be delivered and what is
// still owed, and decide about it: dead letters are listed, shown, sent again or
// removed; owed deliveries are listed or removed; sinks are paused and resumed.
//
// A [Desk] is where that is asked for. There are two: a [Backlog] works on a
// store and the dispatcher that owns it, and the admin server's client asks the
// process that runs one. So a command does the same whether or not a process
// runs.
//
//	command ──▶ Desk ─┬─ admin client ──HTTP──▶ admin server ──▶ Backlog ─▶ the process's dispatcher
//	                  └─ Backlog ─▶ a dispatcher without sinks, opened for the command
//
// Everything is read in pages and done in steps, so that memory is bounded
// whatever there is, and nothing is held up for longer than a step takes:
//
//	        first step fixes the end: what comes later is not touched
//	            │
//	Job ──▶ Step ──cursor──▶ Step ──cursor──▶ … ──▶ Step, no cursor: done
//	        each is durable when it returns; whoever stops between two of
//	        them leaves what was done done, and the rest as it was
//
// Whether something is selected is decided by pure functions; see [Filter].
package backlog
