package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/internal/app"
	"keyhook/internal/hint"
	"keyhook/internal/onlook"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/watch"
)

// explainOptions are the flags of keyhook explain.
type explainOptions struct {
	config    string
	format    output
	rules     []string
	revision  int64
	key       string
	kind      string
	value     string
	valueFile string
	prev      string
	last      string
	lease     string
}

func explainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say which rules match a change, which do not, and what decided",
		Long: `Evaluates the rules on one change, and shows how each came to what it did: the
value of every part of its condition, which of them decided, and the message
that it would send. Nothing is delivered.

The change is described by --key and what else is given, which needs no etcd; or
it is the one that etcd made at --revision, which is read from there. What a key
held before it was deleted is looked for in the last 20,000 revisions.`,
		Example: `  keyhook explain --key /service/batman/leader --value postgresql1 --prev-value postgresql0
  keyhook explain --key /service/batman/leader --type DELETE --prev-value postgresql0
  keyhook explain --revision 48211`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.explain(cmd) },
	}
	configFlag(cmd, &o.config, defaultConfig, "the configuration")
	outputFlag(cmd, &o.format)
	f := cmd.Flags()
	f.StringArrayVar(&o.rules, "rule", nil, "only this rule; may be given several times")
	f.Int64Var(&o.revision, "revision", 0, "the change that etcd made at this revision")
	f.StringVar(&o.key, "key", "", "the key that changes; with --revision: only changes of this key")
	f.StringVar(&o.kind, "type", "PUT", "PUT or DELETE")
	f.StringVar(&o.value, "value", "", "what is put there")
	f.StringVar(&o.valueFile, "value-file", "", "a file with what is put there")
	f.StringVar(&o.prev, "prev-value", "", "what the key held before; without it the key is created")
	f.StringVar(&o.last, "last-value", "", "what the key held before it was deleted, where it is created again")
	f.StringVar(&o.lease, "lease", "", "the lease of what is put, in hexadecimal digits")
	return cmd
}

// flags refuses those that do not go together.
func (o *explainOptions) flags(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	if !given("key") && !given("revision") {
		return &usageError{message: "there is no change to explain", hint: "describe it with --key and --value, or name the --revision of one"}
	}
	for _, pair := range [][2]string{
		{"value", "value-file"}, {"prev-value", "last-value"},
		{"revision", "type"}, {"revision", "value"}, {"revision", "value-file"}, {"revision", "prev-value"}, {"revision", "lease"},
	} {
		if given(pair[0]) && given(pair[1]) {
			return &usageError{message: fmt.Sprintf("--%s and --%s do not go together", pair[0], pair[1])}
		}
	}
	return nil
}

func (o *explainOptions) explain(cmd *cobra.Command) error {
	if err := o.flags(cmd); err != nil {
		return err
	}
	plan, err := app.Load(o.config)
	if err != nil {
		return err
	}
	if err := knownRules(plan.Rules, o.rules); err != nil {
		return err
	}
	source := rules.Source{Name: plan.Config.Source}
	var events []*keyhook.Event
	if o.revision != 0 {
		if events, source.Name, err = o.live(cmd.Context(), plan); err != nil {
			return err
		}
	} else {
		ev, err := o.event(cmd)
		if err != nil {
			return err
		}
		events = []*keyhook.Event{ev}
	}
	if source.Name == "" {
		source.Name = "/etcd/unknown"
	}
	tracer, err := plan.Rules.Tracer(source)
	if err != nil {
		return err
	}
	traces, err := tracer.Trace(events)
	if err != nil {
		return err
	}
	all := make([]explanation, 0, len(events))
	for _, ev := range events {
		all = append(all, explain(traces, plan.Rules, ev, o.rules))
	}
	if o.format == forPrograms {
		return printJSON(cmd.OutOrStdout(), all)
	}
	return printExplanations(cmd.OutOrStdout(), all)
}

// event makes the change that the flags describe.
func (o *explainOptions) event(cmd *cobra.Command) (*keyhook.Event, error) {
	ev := &keyhook.Event{Key: []byte(o.key), Revision: 3, Time: time.Now()}
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	old := func(value string) *keyhook.KeyValue {
		return &keyhook.KeyValue{Value: []byte(value), Revision: 2, CreateRevision: 2, Version: 1}
	}
	if given("prev-value") {
		ev.Prev = old(o.prev)
		ev.Last = ev.Prev
	}
	if given("last-value") {
		ev.Last = old(o.last)
	}
	switch strings.ToUpper(o.kind) {
	case keyhook.Delete.String():
		ev.Type = keyhook.Delete
		if given("value") || given("value-file") || given("lease") || given("last-value") {
			return nil, &usageError{message: "a DELETE has no value and no lease", hint: "what was deleted is given by --prev-value"}
		}
		return ev, nil
	case keyhook.Put.String():
		ev.Type = keyhook.Put
	default:
		return nil, &usageError{message: fmt.Sprintf("--type: %q is not the type of a change", o.kind), hint: "write PUT or DELETE"}
	}
	ev.Value, ev.CreateRevision, ev.Version = []byte(o.value), 3, 1
	if ev.Prev != nil {
		ev.CreateRevision, ev.Version = 2, 2
	}
	if o.valueFile != "" {
		data, err := os.ReadFile(o.valueFile)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("--value-file: %s", err)}
		}
		ev.Value = data
	}
	if o.lease != "" {
		id, err := strconv.ParseInt(o.lease, 16, 64)
		if err != nil {
			return nil, &usageError{message: fmt.Sprintf("--lease: %q is not the id of a lease", o.lease), hint: "write it as etcdctl does, in hexadecimal digits"}
		}
		ev.Lease = id
	}
	return ev, nil
}

// live reads the changes of a revision from etcd, and how their source is named.
func (o *explainOptions) live(ctx context.Context, plan *app.Plan) (events []*keyhook.Event, source string, err error) {
	ranges := plan.Ranges
	if o.key != "" {
		ranges = []keyhook.Range{keyhook.Single([]byte(o.key))}
	}
	err = withEtcd(ctx, plan, func(client *clientv3.Client, name string) error {
		source = name
		events, err = onlook.At(ctx, client, ranges, o.revision)
		return err
	})
	var compacted *onlook.CompactedError
	switch {
	case errors.As(err, &compacted):
		return nil, "", hint.With(err, "describe the change with --key, --value and --prev-value")
	case err != nil:
		return nil, "", err
	case len(events) == 0:
		return nil, "", hint.New(fmt.Sprintf("revision %d has changed nothing that is watched", o.revision), "--key looks at any key", nil)
	}
	if o.last != "" {
		for _, ev := range events {
			if ev.Prev == nil {
				ev.Last = &keyhook.KeyValue{Value: []byte(o.last)}
			}
		}
	}
	return events, source, nil
}

// withEtcd calls f with a client of the configured etcd, and the name of its
// history.
func withEtcd(ctx context.Context, plan *app.Plan, f func(client *clientv3.Client, source string) error) (err error) {
	client, err := watch.Connect(ctx, app.ClientConfig(&plan.Config.Etcd))
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer func() {
		if closeErr := client.Close(); err == nil && !errors.Is(closeErr, context.Canceled) {
			err = closeErr
		}
	}()
	source := plan.Config.Source
	cluster, err := watch.ClusterID(ctx, client, plan.Ranges)
	if err != nil {
		return err
	}
	if source == "" {
		source = app.DefaultSource(cluster)
	}
	return f(client, source)
}

// knownRules refuses names of rules that are not there.
func knownRules(set *rules.Set, names []string) error {
	var known []string
	for _, r := range set.Rules() {
		known = append(known, r.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return &usageError{message: fmt.Sprintf("there is no rule %q", name), hint: strictyaml.DidYouMean(name, known)}
		}
	}
	return nil
}
