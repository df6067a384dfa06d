package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/backlog"
	"keyhook/internal/hint"
)

func sinkCommand(p *Process) *cobra.Command {
	return groupCommand(p, "sink", "List sinks, pause them and let them go on",
		`The commands ask the process that runs with the configuration, or open its data
directory where none runs.`,
		listSinks(p),
		changeSinks(p, "pause", "Keep back all that sinks are owed",
			`Nothing more is sent to the sinks, until they are resumed, restarts included.
What is owed to them stays owed, and grows on disk; other sinks do not notice.
Attempts that have begun are finished.`, "paused", backlog.Desk.Pause),
		changeSinks(p, "resume", "Let sinks go on",
			`Ends a pause, a hold that the sink asked for (410 Gone), and an open breaker.
What is owed goes out, those of a key in their order.`, "resumed", backlog.Desk.Resume),
	)
}

func listSinks(p *Process) *cobra.Command {
	d := deskCommand{p: p}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sinks: how they do and what they are owed",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return d.open(cmd.Context(), func(ctx context.Context, desk *app.Desk) error {
				all, err := desk.Sinks(ctx)
				if err != nil {
					return err
				}
				return printSinks(cmd.OutOrStdout(), d.format, all)
			})
		},
	}
	d.addFlags(cmd)
	return cmd
}

func printSinks(out io.Writer, format output, all []backlog.Sink) error {
	now := time.Now()
	t := newTable(out, format, "SINK\tSTATE\tOWED\tOLDEST\tDEAD LETTERS\tIN FLIGHT\tLAST DELIVERED\tLAST ERROR")
	for i := range all {
		s := &all[i]
		err := t.add(s, func(w io.Writer) {
			lastError := "-"
			if s.LastError != "" {
				lastError = ago(at(s.LastErrorAt), now) + ": " + shortened(printable(s.LastError), maxError)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", printable(s.Name), stateOf(s, now), comma(s.Owed),
				ago(at(s.OldestOwedAt), now), comma(s.DeadLetters), s.InFlight, ago(at(s.LastDeliveredAt), now), lastError)
		})
		if err != nil {
			return err
		}
	}
	return t.end("no sinks")
}

// at returns the time that t points to, the zero time where there is none.
func at(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// stateOf says in a few words what keeps a sink from being sent to.
func stateOf(s *backlog.Sink, now time.Time) string {
	var all []string
	if s.Paused {
		all = append(all, "paused "+ago(at(s.PausedSince), now))
	}
	if s.Held {
		all = append(all, "held "+ago(at(s.HeldSince), now)+": "+shortened(printable(s.HeldReason), maxCell))
	}
	if s.Breaker != "" && s.Breaker != "closed" {
		text := "breaker " + printable(s.Breaker)
		if until := at(s.BreakerUntil); until.After(now) {
			text += ", next try " + ago(until, now)
		}
		all = append(all, text)
	}
	if s.Configured != nil && !*s.Configured {
		all = append(all, "in no rule file")
	}
	switch {
	case len(all) > 0:
		return strings.Join(all, "; ")
	case s.Configured == nil:
		return "-" // nothing runs
	default:
		return "ok"
	}
}

// changeSinks returns the command that does something with the sinks it names.
func changeSinks(p *Process, verb, short, long, done string, do func(backlog.Desk, context.Context, string) error) *cobra.Command {
	d := deskCommand{p: p}
	cmd := &cobra.Command{
		Use: verb + " SINK...", Short: short, Long: long,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{message: cmd.CommandPath() + " needs the name of a sink", hint: "`keyhook sink list` shows the names"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.open(cmd.Context(), func(ctx context.Context, desk *app.Desk) error {
				var errs []error
				changed := make(map[string]bool)
				for _, name := range args {
					err := do(desk, ctx, name)
					changed[name] = err == nil
					errs = append(errs, unknownSink(err, desk.Running))
				}
				all, err := desk.Sinks(ctx)
				if err != nil {
					return errors.Join(append(errs, err)...)
				}
				all = slices.DeleteFunc(all, func(s backlog.Sink) bool { return !changed[s.Name] })
				if d.format == forPrograms {
					err = printSinks(cmd.OutOrStdout(), d.format, all)
				} else {
					err = printChanged(cmd.OutOrStdout(), all, done)
				}
				return errors.Join(append(errs, err)...)
			})
		},
	}
	d.addFlags(cmd)
	return cmd
}

// printChanged says what became of the sinks. What a sink is owed says little
// once it goes on: it is on its way.
func printChanged(out io.Writer, all []backlog.Sink, done string) error {
	for i := range all {
		s := &all[i]
		line := printable(s.Name) + " is " + done
		if s.Paused {
			line += "; it is owed " + plural(int(s.Owed), "delivery")
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// unknownSink adds to an error what sinks are known.
func unknownSink(err error, running bool) error {
	if !errors.Is(err, backlog.ErrUnknownSink) {
		return err
	}
	advice := "`keyhook sink list` shows the names"
	if !running {
		advice += "; no process runs, and the data directory knows only sinks that are owed something, have dead letters or are paused"
	}
	return hint.With(err, advice)
}
