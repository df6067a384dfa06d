package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/backlog"
)

// listing is a command that lists what is in the backlog.
type listing[T any] struct {
	short       string
	deadLetters bool   // and not what is owed
	head        string // of the table
	none        string // in place of an empty table
	all         func(backlog.Desk, context.Context, backlog.Filter) iter.Seq2[T, error]
	row         func(w io.Writer, v T, now time.Time)
}

func (l listing[T]) command(p *Process) *cobra.Command {
	d := deskCommand{p: p}
	var flags selectFlags
	cmd := &cobra.Command{
		Use: "list", Short: l.short, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			if err := flags.read(now); err != nil {
				return err
			}
			return d.open(cmd.Context(), func(ctx context.Context, desk *app.Desk) error {
				t := newTable(cmd.OutOrStdout(), d.format, l.head)
				for v, err := range l.all(desk, ctx, flags.filter) {
					if err != nil {
						return t.fail(err)
					}
					if err := t.add(v, func(w io.Writer) { l.row(w, v, now) }); err != nil {
						return err
					}
					if t.rows == flags.limit {
						break
					}
				}
				return t.end(l.none)
			})
		},
	}
	d.addFlags(cmd)
	flags.add(cmd, l.deadLetters)
	return cmd
}

const (
	// maxCell bounds what a cell of a table shows, in characters.
	maxCell = 60
	// maxError does so for an error, which is the last cell.
	maxError = 160
	// block is how many rows are aligned with each other: a table of any length
	// takes as much memory.
	block = 200
)

// table prints rows as they come.
type table struct {
	format output
	out    *bufio.Writer
	list   printList
	text   *tabwriter.Writer
	head   string
	rows   int
}

func newTable(w io.Writer, format output, head string) *table {
	out := bufio.NewWriterSize(w, 64<<10)
	return &table{format: format, out: out, list: printList{w: out}, text: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), head: head}
}

// add prints a row: v for programs, and for people what row writes.
func (t *table) add(v any, row func(io.Writer)) error {
	t.rows++
	if t.format == forPrograms {
		return t.list.add(v)
	}
	if t.rows == 1 {
		fmt.Fprintln(t.text, t.head)
	}
	row(t.text)
	if t.rows%block == 0 {
		return t.text.Flush()
	}
	return nil
}

// fail ends the table where it is, because of err.
func (t *table) fail(err error) error { return errors.Join(err, t.text.Flush(), t.out.Flush()) }

// end ends the table, with none in place of an empty one.
func (t *table) end(none string) error {
	var err error
	switch {
	case t.format == forPrograms:
		err = t.list.end()
	case t.rows == 0:
		_, err = fmt.Fprintln(t.out, none)
	default:
		err = t.text.Flush()
	}
	return errors.Join(err, t.out.Flush())
}
