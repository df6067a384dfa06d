package cli

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keyhook/internal/admin"
	"keyhook/internal/app"
	"keyhook/internal/hint"
)

func auditCommand(p *Process) *cobra.Command {
	d := deskCommand{p: p}
	var repair bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare what is known of the watched keys with what etcd holds",
		Long: `Compares every watched key as keyhook knows it with what etcd holds at the same
revision. Where they differ, changes were lost without a trace, or etcd was
restored from a backup that does not show otherwise. A running process does the
same by itself, slowly, every hour.

The process that runs with the configuration is asked; where none runs, its data
directory is compared. The exit code is 1 if anything differs, or could not be
compared.

With --repair the running process delivers what differs as synthetic changes, and
lets ranges go on that halted because history was compacted or rolled back
(etcd.on_gap: halt), or because another cluster answers.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, log, err := d.load()
			if err != nil {
				return err
			}
			reports, err := app.Audit(ctx, cfg, log, repair, d.auditProgress())
			if err != nil {
				return interrupted(ctx, err)
			}
			return printAudit(cmd.OutOrStdout(), d.format, reports)
		},
	}
	d.addFlags(cmd)
	cmd.Flags().BoolVar(&repair, "repair", false, "deliver what differs as synthetic changes, and let halted ranges go on")
	return cmd
}

// auditProgress shows on a terminal how far the audit has come.
func (d *deskCommand) auditProgress() func(keys int) {
	return func(keys int) {
		if d.p.StderrTerminal {
			fmt.Fprintf(d.p.Stderr, "\r%s compared\033[K", plural(keys, "key"))
		}
	}
}

// printAudit prints what audits have found. An error says that something differs,
// and was not repaired, or could not be compared.
func printAudit(out io.Writer, format output, reports []admin.Audit) error {
	if format == forPrograms {
		if err := printJSON(out, reports); err != nil {
			return err
		}
	} else if err := printAuditText(out, reports); err != nil {
		return err
	}
	differing, failed := 0, 0
	for i := range reports {
		differing += reports[i].Differing
		if reports[i].Error != "" {
			failed++
		}
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%s could not be compared", plural(failed, "range"))
	case differing > 0 && anyRepaired(reports):
		return hint.New(plural(differing, "key")+" differed", "what differs is delivered as synthetic changes", nil)
	case differing > 0:
		return hint.New(plural(differing, "key")+" differ", "`keyhook audit --repair` delivers what differs as synthetic changes", nil)
	}
	return nil
}

func anyRepaired(reports []admin.Audit) bool {
	for i := range reports {
		if reports[i].Differing > 0 && reports[i].Repaired {
			return true
		}
	}
	return false
}

func printAuditText(out io.Writer, reports []admin.Audit) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RANGE\tKEYS\tDIFFERENT\tRESULT")
	for i := range reports {
		a := &reports[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(a.Range), comma(int64(a.Keys)), comma(int64(a.Differing)), auditResult(a))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range reports {
		if err := printDifferences(out, &reports[i]); err != nil {
			return err
		}
	}
	return nil
}

func auditResult(a *admin.Audit) string {
	switch {
	case a.Error != "":
		return "not compared: " + printable(a.Error)
	case a.Repaired && a.Differing == 0:
		return "was halted, goes on"
	case a.Repaired:
		return "repaired"
	case a.Differing > 0:
		return "differs"
	case a.Partial:
		return "fine, as far as history reaches"
	default:
		return "fine"
	}
}

func printDifferences(out io.Writer, a *admin.Audit) error {
	if len(a.Differences) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nKEY\tKNOWN AT\tIN ETCD AT\tCOMPARED AT\n")
	for _, d := range a.Differences {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", shortened(textOf(d.Key, d.KeyBase64), maxCell), revisionOr(d.Known), revisionOr(d.Etcd), d.Revision)
	}
	if more := a.Differing - len(a.Differences); more > 0 {
		fmt.Fprintf(t, "… and %s more\n", comma(int64(more)))
	}
	return t.Flush()
}

// revisionOr returns the revision that wrote a key, if it is there.
func revisionOr(rev int64) string {
	if rev == 0 {
		return "not there"
	}
	return strconv.FormatInt(rev, 10)
}
