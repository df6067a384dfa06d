package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/backlog"
)

func owedCommand(p *Process) *cobra.Command {
	return groupCommand(p, "owed", "List or remove what is still to be delivered",
		`Owed deliveries are those that have not been acknowledged, refused for good or
given up: they wait for their turn, for a retry, or for a sink that is paused.

The commands ask the process that runs with the configuration, or open its data
directory where none runs.`,
		listOwed(p), purgeOwed(p))
}

func listOwed(p *Process) *cobra.Command {
	l := listing[backlog.Owed]{
		short: "List owed deliveries: by rule, send and sink, then those of a key in their order",
		none:  "nothing is owed",
		head:  "ADMITTED\tID\tSINK\tRULE\tKEY\tREVISION\tATTEMPTS\tSIZE\tNEXT TRY\tERROR",
		all:   backlog.Desk.Owed,
		row: func(w io.Writer, o backlog.Owed, now time.Time) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", ago(o.AdmittedAt, now), printable(o.ID),
				printable(o.Sink), printable(o.Rule), shortened(textOf(o.Key, o.KeyBase64), maxCell), o.Revision,
				o.Attempts, size(o.Size), nextTry(o.DueAt, now), shortened(printable(o.Error), maxError))
		},
	}
	return l.command(p)
}

func nextTry(due *time.Time, now time.Time) string {
	switch {
	case due == nil:
		return "-"
	case !due.After(now):
		return "due"
	default:
		return ago(*due, now)
	}
}

func purgeOwed(p *Process) *cobra.Command {
	return purgeCommand(&job{deskCommand: &deskCommand{p: p}, what: "owed delivery", done: "purged", do: backlog.Desk.PurgeOwed},
		"Remove owed deliveries: they are never sent",
		`Removes owed deliveries for good: they are never sent, and do not become dead
letters. What is being sent at this moment may still succeed; it is not tried
again. What becomes owed after the command has begun is not touched: pause the
sink first to be sure that nothing more goes out.`, false)
}
