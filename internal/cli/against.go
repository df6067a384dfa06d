package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"keyhook/internal/app"
	"keyhook/internal/compare"
)

// againstRunning asks for a comparison with the process that runs. A file of that
// name is written ./running.
const againstRunning = "running"

// changesAgainst returns what would be different if plan took the place of what
// against names.
func changesAgainst(ctx context.Context, against string, plan *app.Plan) (*compare.Changes, error) {
	if strings.EqualFold(against, againstRunning) {
		changes, err := app.CompareRunning(ctx, plan)
		return changes, interrupted(ctx, err)
	}
	before, err := app.Load(against)
	if err != nil {
		return nil, err
	}
	return plan.Compare(before), nil
}

// printChanges writes changes for people.
func printChanges(out io.Writer, against string, c *compare.Changes) error {
	running := strings.EqualFold(against, againstRunning)
	what := against
	if running {
		what = "what is running"
	}
	if c.IsZero() {
		_, err := fmt.Fprintf(out, "\nno change against %s\n", what)
		return err
	}
	var page bytes.Buffer
	w := tabwriter.NewWriter(&page, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nchanges against %s\n", what)
	printNamed(w, "rule", &c.Rules, running)
	printNamed(w, "sink", &c.Sinks, running)
	for _, r := range c.Ranges.Added {
		fmt.Fprintf(w, "  + range %s\tbegins as etcd.start says\n", cmp.Or(r, "(all keys)"))
	}
	for _, r := range c.Ranges.GivenUp {
		fmt.Fprintf(w, "  - range %s\tgiven up, with its position and what is remembered of its keys\n", cmp.Or(r, "(all keys)"))
	}
	for _, f := range c.Settings {
		fmt.Fprintf(w, "  ~ setting %s\t%s; at the next start\n", f.Field, change(f))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(page.String()) { // some end in an empty column
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func printNamed(w io.Writer, what string, n *compare.Named, running bool) {
	for _, name := range n.Added {
		fmt.Fprintf(w, "  + %s %s\t\n", what, name)
	}
	for _, r := range n.Removed {
		owes := ""
		switch {
		case r.OwedMore:
			owes = fmt.Sprintf("owes more than %d deliveries", r.Owed)
		case r.Owed == 1:
			owes = "owes 1 delivery"
		case running:
			owes = fmt.Sprintf("owes %d deliveries", r.Owed)
		}
		fmt.Fprintf(w, "  - %s %s\t%s\n", what, r.Name, owes)
	}
	for _, r := range n.Renamed {
		fmt.Fprintf(w, "  ~ %s %s\twas %s, and takes what that owes\n", what, r.To, r.From)
	}
	for _, c := range n.Changed {
		for _, f := range c.Fields {
			fmt.Fprintf(w, "  ~ %s %s\t%s\n", what, c.Name, f.Field+": "+change(f))
		}
	}
}

// change says what a field was, and what it is, as far as that is shown.
func change(f compare.FieldChange) string {
	if f.Hidden {
		return "changed"
	}
	before, after := short(f.Before), short(f.After)
	switch {
	case before == "":
		return "added: " + after
	case after == "":
		return "removed: " + before
	default:
		return before + " → " + after
	}
}

// short is a value on a part of a line.
func short(values []string) string {
	const longest = 60
	return shortened(printable(strings.Join(values, ", ")), longest)
}
