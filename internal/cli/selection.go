package cli

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"keyhook"
	"keyhook/internal/backlog"
	"keyhook/internal/strictyaml"
)

// reasons returns those of dead letters.
func reasons() []string {
	var names []string
	for _, r := range keyhook.Reasons() {
		names = append(names, string(r))
	}
	return names
}

// selectFlags are the flags that say what is meant.
type selectFlags struct {
	filter       backlog.Filter
	keyPrefix    string
	since, until string
	all          bool
	limit        int
}

// add adds the flags of a filter. What is owed has no reason, and another time.
func (f *selectFlags) add(cmd *cobra.Command, deadLetters bool) {
	flags := cmd.Flags()
	at := "admitted"
	flags.StringArrayVar(&f.filter.Rules, "rule", nil, "of this rule; may be repeated, as --send, --sink and --reason")
	flags.StringArrayVar(&f.filter.Sends, "send", nil, "of this send")
	flags.StringArrayVar(&f.filter.Sinks, "sink", nil, "of this sink")
	flags.StringVar(&f.keyPrefix, "key-prefix", "", "whose key begins with this")
	if deadLetters {
		at = "failed"
		flags.StringArrayVar(&f.filter.Reasons, "reason", nil, "with this reason")
	}
	flags.StringVar(&f.filter.Error, "error", "", "whose error contains this")
	flags.StringVar(&f.since, "since", "", at+" at this time or later: a time (2026-03-01T03:00:00Z), or how long ago (2h, 7d)")
	flags.StringVar(&f.until, "until", "", at+" before this time")
	flags.Int64Var(&f.filter.MinRevision, "min-revision", 0, "of a change of this revision or a later one")
	flags.Int64Var(&f.filter.MaxRevision, "max-revision", 0, "of a change of this revision or an earlier one")
	flags.IntVar(&f.limit, "limit", 0, "no more than so many")
}

// addAll adds the flag that selects everything.
func (f *selectFlags) addAll(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.all, "all", false, "all of them")
}

// read completes the filter.
func (f *selectFlags) read(now time.Time) (err error) {
	if f.limit < 0 {
		return &usageError{message: "--limit must not be negative"}
	}
	for _, r := range f.filter.Reasons {
		if !slices.Contains(reasons(), r) {
			return &usageError{message: fmt.Sprintf("--reason: there is no reason %q", r), hint: strictyaml.DidYouMean(r, reasons())}
		}
	}
	if utf8.ValidString(f.keyPrefix) {
		f.filter.KeyPrefix = f.keyPrefix
	} else {
		f.filter.KeyPrefixBase64 = []byte(f.keyPrefix)
	}
	if f.filter.Since, err = moment("since", f.since, now); err != nil {
		return err
	}
	if f.filter.Until, err = moment("until", f.until, now); err != nil {
		return err
	}
	if err := f.filter.Check(); err != nil {
		return &usageError{message: err.Error()}
	}
	return nil
}

// selection returns what the flags and the arguments select.
func (f *selectFlags) selection(cmd *cobra.Command, ids []string, now time.Time) (backlog.Selection, error) {
	s := backlog.Selection{All: f.all}
	for _, id := range ids {
		if !slices.Contains(s.IDs, id) {
			s.IDs = append(s.IDs, id)
		}
	}
	if err := f.read(now); err != nil {
		return s, err
	}
	s.Filter = f.filter
	if err := s.Check(); err != nil {
		return s, &usageError{
			message: fmt.Sprintf("%s: %s", cmd.CommandPath(), err),
			hint:    "name ids, or select with flags such as --sink or --since, or say --all",
		}
	}
	return s, nil
}

// moment reads a time, or how long ago it was.
func moment(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := strictyaml.ParseDuration(s)
	if err != nil {
		return time.Time{}, &usageError{
			message: fmt.Sprintf("--%s: %q is neither a time nor how long ago it was", flag, s),
			hint:    "write a time such as 2026-03-01T03:00:00Z, or a duration such as 90m, 2h or 7d",
		}
	}
	return now.Add(-d.Std()), nil
}
