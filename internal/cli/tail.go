package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/internal/app"
	"keyhook/internal/hint"
	"keyhook/internal/onlook"
	"keyhook/rules"
	"keyhook/rules/ruletest"
)

// tailOptions are the flags of keyhook tail.
type tailOptions struct {
	config   string
	format   output
	rules    []string
	key      string
	revision int64
	count    int
	timeout  time.Duration
	record   string
	force    bool
}

func tailCommand() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the changes in etcd as they come, and what the rules make of them",
		Long: `Shows the changes of the watched keys as they come, with the rules that match
and the messages that they would send. Nothing is delivered, and the checkpoint
of keyhook run is not touched. It ends with Ctrl-C, or as --count and --timeout say.

With --record it writes what it has seen as a test of rules, which passes; see
keyhook test.

What a key held before it was deleted is known of deletions that tail has seen.`,
		Example: `  keyhook tail --rule patroni-failover
  keyhook tail --key /service/ --output json | jq .event.key
  keyhook tail --record rules/failover_test.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.tail(cmd) },
	}
	configFlag(cmd, &o.config, defaultConfig, "the configuration")
	outputFlag(cmd, &o.format)
	f := cmd.Flags()
	f.StringArrayVar(&o.rules, "rule", nil, "only changes that this rule matches, or fails on; may be given several times")
	f.StringVar(&o.key, "key", "", "only keys that begin with this")
	f.Int64Var(&o.revision, "revision", 0, "begin with this revision, in place of now")
	f.IntVar(&o.count, "count", 0, "end after so many changes; 0: do not")
	f.DurationVar(&o.timeout, "timeout", 0, "end after this time, such as 10m; 0: do not")
	f.StringVar(&o.record, "record", "", "write what was seen to this file, as a test of rules")
	f.BoolVar(&o.force, "force", false, "let --record replace a file that is there")
	return cmd
}

func (o *tailOptions) tail(cmd *cobra.Command) error {
	plan, err := app.Load(o.config)
	if err != nil {
		return err
	}
	if err := o.check(plan); err != nil {
		return err
	}
	ranges := plan.Ranges
	if o.key != "" {
		ranges = []keyhook.Range{keyhook.Prefix([]byte(o.key))}
	}
	ctx := cmd.Context()
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	t := &tail{opts: o, set: plan.Rules, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
	err = withEtcd(ctx, plan, func(client *clientv3.Client, source string) error {
		t.source = rules.Source{Name: source}
		if o.record != "" {
			t.recording = &ruletest.Recording{
				Name: "recorded on " + time.Now().Format("2 January 2006, 15:04"), Config: o.config, Source: source, Only: o.rules,
			}
		}
		if o.format == forPeople {
			if _, err := fmt.Fprintf(t.errs, "looking at %s; nothing is delivered\n", strings.Join(rangeTexts(ranges), ", ")); err != nil {
				return err
			}
		}
		return onlook.Follow(ctx, client, ranges, o.revision, t.show)
	})
	var compacted *onlook.CompactedError
	switch {
	case errors.Is(err, errEnough):
	case errors.As(err, &compacted):
		return hint.With(err, fmt.Sprintf("begin with --revision %d, or with now", compacted.Revision))
	case err != nil && ctx.Err() == nil:
		return err
	}
	return t.finish()
}

// check refuses what cannot end well, before anything is looked at.
func (o *tailOptions) check(plan *app.Plan) error {
	if err := knownRules(plan.Rules, o.rules); err != nil {
		return err
	}
	if o.record == "" {
		return nil
	}
	if !ruletest.IsTest(o.record) {
		return &usageError{message: fmt.Sprintf("--record: %s is not the name of a file of tests", o.record), hint: "it ends in _test.yaml"}
	}
	if exists(o.record) && !o.force {
		return &usageError{message: fmt.Sprintf("--record: %s is there already", o.record), hint: "--force replaces it"}
	}
	return nil
}

func rangeTexts(ranges []keyhook.Range) []string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return texts
}

// errEnough ends a tail that has shown what was asked for.
var errEnough = errors.New("as many changes as were asked for")

// tail is a look at changes under way.
type tail struct {
	opts      *tailOptions
	set       *rules.Set
	source    rules.Source
	out, errs io.Writer
	result    rules.Result
	recording *ruletest.Recording // nil: none is made, or it is full
	shown     int
}

// tailLine is a change for programs.
type tailLine struct {
	Time       time.Time       `json:"time"`
	Event      shownEvent      `json:"event"`
	Matched    []string        `json:"matched"`
	Errors     []shownError    `json:"errors,omitempty"`
	Deliveries []shownDelivery `json:"deliveries,omitempty"`
}

type shownError struct {
	Rule  string `json:"rule"`
	Error string `json:"error"`
}

// show shows the changes of one revision.
func (t *tail) show(events []*keyhook.Event) error {
	t.record(events)
	for ev := range t.set.EvaluateBatch(t.source, events, &t.result) {
		line := t.line(ev)
		if len(t.opts.rules) > 0 && len(line.Matched)+len(line.Errors)+len(line.Deliveries) == 0 {
			continue
		}
		if err := t.print(ev, &line); err != nil {
			return err
		}
		if t.shown++; t.shown == t.opts.count {
			return errEnough
		}
	}
	return nil
}

// record adds changes that the rules asked for look at.
func (t *tail) record(events []*keyhook.Event) {
	if t.recording == nil || t.recording.Full() {
		return
	}
	looked := events
	if len(t.opts.rules) > 0 {
		looked = slices.DeleteFunc(slices.Clone(events), func(ev *keyhook.Event) bool {
			return !slices.ContainsFunc(t.opts.rules, func(name string) bool { return t.set.LooksAt(name, ev.Key) })
		})
	}
	if err := t.recording.Add(looked); err != nil {
		fmt.Fprintf(t.errs, "%s: what comes from here on is not part of it\n", err)
	}
}

// line returns what the rules asked for have made of ev.
func (t *tail) line(ev *keyhook.Event) tailLine {
	wanted := func(rule string) bool { return len(t.opts.rules) == 0 || slices.Contains(t.opts.rules, rule) }
	line := tailLine{Time: ev.Time, Event: showEvent(ev), Matched: []string{}}
	for _, m := range t.result.Matches {
		if wanted(m.Rule) {
			line.Matched = append(line.Matched, m.Rule)
		}
	}
	for _, e := range t.result.Errors {
		if wanted(e.Rule) {
			line.Errors = append(line.Errors, shownError{e.Rule, e.Err.Error()})
		}
	}
	for _, d := range t.result.Deliveries {
		if !d.Cancels && wanted(d.Rule) {
			line.Deliveries = append(line.Deliveries, showDelivery(d))
		}
	}
	return line
}

func (t *tail) print(ev *keyhook.Event, line *tailLine) error {
	if t.opts.format == forPrograms {
		return printJSONLine(t.out, line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %d  %s\n", ev.Time.Format("15:04:05.000"), ev.Revision, eventLine(ev))
	for _, d := range line.Deliveries {
		body := ""
		if d.Body != nil {
			body = shorten(printable(strings.Join(strings.Fields(*d.Body), " ")))
		}
		if d.Reason != "" {
			body = "a dead letter, reason " + d.Reason + ": " + d.Error
		}
		if d.Subject != "" {
			body = d.Subject + "  " + body
		}
		fmt.Fprintf(&b, "    %s → %s%s  %s\n", d.Rule, d.Send, d.timing(), body)
	}
	for _, e := range line.Errors {
		fmt.Fprintf(&b, "    %s fails: %s\n", e.Rule, e.Error)
	}
	_, err := io.WriteString(t.out, b.String())
	return err
}

// finish writes the recording, if there is one.
func (t *tail) finish() error {
	if t.recording == nil {
		return nil
	}
	if t.recording.Len() == 0 {
		return errors.New("there was no change to record")
	}
	runner, err := ruletest.New(ruletest.Options{Sink: app.DispatcherSink, Story: app.DeadLetterStory, Config: testSetup})
	if err != nil {
		return err
	}
	data, err := runner.Record(t.opts.record, t.recording)
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.opts.record, data, 0o600); err != nil {
		return fmt.Errorf("write the recording: %w", err)
	}
	_, err = fmt.Fprintf(t.errs, "%s: a test of %s; run it with keyhook test %s\n",
		t.opts.record, counted(t.recording.Len(), "revision"), t.opts.record)
	return err
}
