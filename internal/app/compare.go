package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"keyhook/internal/admin"
	"keyhook/internal/backlog"
	"keyhook/internal/compare"
	"keyhook/internal/hint"
)

// compare implements [admin.Comparer].
func (r *run) compare(with *compare.Inventory) *compare.Changes {
	r.mu.Lock()
	set, ranges := r.rules.set, r.rules.ranges
	r.mu.Unlock()
	return compare.Compare(inventory(r.opts.Plan.Config, set, ranges, with.Key), with)
}

// Compare returns what would be different if what another configuration says
// became what p says.
func (p *Plan) Compare(before *Plan) *compare.Changes {
	key := compare.NewKey()
	return compare.Compare(before.inventory(key), p.inventory(key))
}

func (p *Plan) inventory(key []byte) *compare.Inventory {
	return inventory(p.Config, p.Rules, p.Ranges, key)
}

// CompareRunning returns what would be different if the process that runs with
// the data directory of p became what p says, and what it still owes for what
// would be gone. It changes nothing.
func CompareRunning(ctx context.Context, p *Plan) (changes *compare.Changes, err error) {
	dir := p.Config.Checkpoint.Dir
	const start = "start `keyhook run`, or name a configuration file to compare with"
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New("nothing runs with the data directory "+dir+": there is none", start, err)
	}
	desk, err := reachProcess(ctx, p.Config)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, hint.New("nothing can be asked that runs with the data directory "+dir+": "+err.Error(), cmp.Or(hint.Of(err), start), err)
	}
	defer func() { err = errors.Join(err, desk.Close()) }()
	client, ok := desk.Desk.(*admin.Client)
	if !ok {
		return nil, fmt.Errorf("%T is no process", desk.Desk)
	}
	changes, err = client.Compare(ctx, p.inventory(compare.NewKey()))
	if err != nil {
		return nil, err
	}
	if err := countOwed(ctx, client, changes.Rules.Removed, func(name string) backlog.Filter { return backlog.Filter{Rules: []string{name}} }); err != nil {
		return nil, err
	}
	if err := countOwed(ctx, client, changes.Sinks.Removed, func(name string) backlog.Filter { return backlog.Filter{Sinks: []string{name}} }); err != nil {
		return nil, err
	}
	return changes, nil
}

// countedOwed bounds how much is counted of what a removed rule or sink owes.
const countedOwed = 10_000

func countOwed(ctx context.Context, desk backlog.Desk, removed []compare.Removed, of func(name string) backlog.Filter) error {
	for i := range removed {
		r := &removed[i]
		for _, err := range desk.Owed(ctx, of(r.Name)) {
			if err != nil {
				return err
			}
			if r.Owed == countedOwed {
				r.OwedMore = true
				break
			}
			r.Owed++
		}
	}
	return nil
}

// changeAttrs are what a log line says of changes: names, and of what has changed
// the fields.
func changeAttrs(c *compare.Changes) []any {
	var attrs []any
	add := func(name string, all []string) {
		if len(all) > 0 {
			attrs = append(attrs, name, few(all))
		}
	}
	for _, of := range []struct {
		what string
		*compare.Named
	}{{"rules", &c.Rules}, {"sinks", &c.Sinks}} {
		add(of.what+"_added", of.Added)
		add(of.what+"_removed", texts(of.Removed, func(r compare.Removed) string { return r.Name }))
		add(of.what+"_renamed", texts(of.Renamed, func(r compare.Renamed) string { return r.From + " -> " + r.To }))
		add(of.what+"_changed", texts(of.Changed, func(c compare.Changed) string {
			return c.Name + " (" + strings.Join(few(texts(c.Fields, func(f compare.FieldChange) string { return f.Field })), ", ") + ")"
		}))
	}
	add("ranges_added", c.Ranges.Added)
	add("ranges_given_up", c.Ranges.GivenUp)
	return attrs
}

func texts[T any](all []T, text func(T) string) []string {
	list := make([]string, len(all))
	for i, one := range all {
		list[i] = text(one)
	}
	return list
}

// few cuts a list to what a log line bears.
func few(all []string) []string {
	const shown = 20
	if len(all) <= shown {
		return all
	}
	return append(all[:shown:shown], fmt.Sprintf("and %d more", len(all)-shown))
}
