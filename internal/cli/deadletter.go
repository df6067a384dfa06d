package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/backlog"
)

func deadLetterCommand(p *Process) *cobra.Command {
	return groupCommand(p, "deadletter", "List, show, send again or remove what could not be delivered",
		`Dead letters are deliveries that were given up: refused for good, tried too often
or too long, or impossible to render. Each keeps its event and its message.

The commands ask the process that runs with the configuration, or open its data
directory where none runs.`,
		listDeadLetters(p), showDeadLetter(p), replayDeadLetters(p), purgeDeadLetters(p))
}

func listDeadLetters(p *Process) *cobra.Command {
	l := listing[backlog.Letter]{
		short: "List dead letters, those that were given up first on top",
		none:  "no dead letters", deadLetters: true,
		head: "FAILED\tID\tSINK\tRULE\tKEY\tREVISION\tATTEMPTS\tSIZE\tREASON\tERROR",
		all:  backlog.Desk.DeadLetters,
		row: func(w io.Writer, l backlog.Letter, now time.Time) {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", ago(l.FailedAt, now), printable(l.ID),
				printable(l.Sink), printable(l.Rule), shortened(textOf(l.Key, l.KeyBase64), maxCell), l.Revision,
				l.Attempts, size(l.Size), printable(string(l.Reason)), shortened(printable(l.Error), maxError))
		},
	}
	return l.command(p)
}

func showDeadLetter(p *Process) *cobra.Command {
	d := deskCommand{p: p}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a dead letter: its event, its message, why and when",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{message: cmd.CommandPath() + " takes one id", hint: "`keyhook deadletter list` shows the ids"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.open(cmd.Context(), func(ctx context.Context, desk *app.Desk) error {
				s, err := desk.DeadLetter(ctx, args[0])
				if err != nil {
					return err
				}
				if d.format == forPrograms {
					return printJSON(cmd.OutOrStdout(), s)
				}
				return printStory(cmd.OutOrStdout(), s, time.Now())
			})
		},
	}
	d.addFlags(cmd)
	return cmd
}

func replayDeadLetters(p *Process) *cobra.Command {
	j := job{deskCommand: &deskCommand{p: p}, what: "dead letter", done: "requeued", do: backlog.Desk.Replay}
	var flags selectFlags
	var rate rateFlag
	cmd := &cobra.Command{
		Use:   "replay [ID...]",
		Short: "Send dead letters again",
		Long: `Makes dead letters owed again, under the same ids, at the end of what is owed
of their keys. It returns when that is durable, not when they are delivered.

What was rendered is sent as it is; with --render it is rendered again from the
event, with the rules of today: their body, headers, subject and sink. Letters
that have no message, because it could not be rendered, are rendered again in any
case. Those that fail again, or whose rule or send is gone, stay as they are, are
named, and the exit code is 1.

Ctrl-C leaves what was done done, and the rest as it was.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if j.job.Selection, err = flags.selection(cmd, args, time.Now()); err != nil {
				return err
			}
			j.limit, j.perSecond = flags.limit, float64(rate)
			return j.execute(cmd.Context(), cmd)
		},
	}
	j.addFlags(cmd)
	flags.add(cmd, true)
	flags.addAll(cmd)
	cmd.Flags().BoolVar(&j.job.Render, "render", false, "render the messages again, with the rules of today")
	cmd.Flags().BoolVar(&j.job.DryRun, "dry-run", false, "say what would be done")
	cmd.Flags().Var(&rate, "rate", "how many at most, such as 100/s or 30/m; default: as fast as it goes")
	return cmd
}

func purgeDeadLetters(p *Process) *cobra.Command {
	return purgeCommand(&job{deskCommand: &deskCommand{p: p}, what: "dead letter", done: "purged", do: backlog.Desk.PurgeDeadLetters},
		"Remove dead letters", "Removes dead letters for good, with their events and messages.", true)
}

// purgeCommand returns the command of a job that removes.
func purgeCommand(j *job, short, long string, deadLetters bool) *cobra.Command {
	var flags selectFlags
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge [ID...]",
		Short: short,
		Long: long + `

On a terminal, removing more than a single id needs --yes: without it the command
says what would be removed and ends with 2. A script is not asked.

Ctrl-C leaves what was done done, and the rest as it was.`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if j.job.Selection, err = flags.selection(cmd, args, time.Now()); err != nil {
				return err
			}
			j.limit = flags.limit
			if yes || j.job.DryRun || !j.p.StdinTerminal || len(j.job.IDs) == 1 {
				return j.execute(cmd.Context(), cmd)
			}
			j.job.DryRun = true
			if err := j.execute(cmd.Context(), cmd); err != nil {
				return err
			}
			return &usageError{message: "nothing was removed", hint: "add --yes to remove them"}
		},
	}
	j.addFlags(cmd)
	flags.add(cmd, deadLetters)
	flags.addAll(cmd)
	cmd.Flags().BoolVar(&j.job.DryRun, "dry-run", false, "say what would be done")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "remove them, on a terminal too")
	return cmd
}
