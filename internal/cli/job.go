package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/backlog"
	"keyhook/internal/hint"
	"keyhook/internal/strictyaml"
)

// job is a change of everything that is selected, in the words of its command.
type job struct {
	*deskCommand
	what string // "dead letter"
	done string // "requeued"
	do   func(backlog.Desk, context.Context, backlog.Job) (*backlog.Step, error)

	job       backlog.Job
	limit     int
	perSecond float64
}

const (
	// stepPatience is how long a step may take; a process that is asked gives up
	// sooner, and says why.
	stepPatience = time.Minute
	// maxNamed bounds the failures that are told one by one.
	maxNamed = 1000
	// paced is how many steps a second are made of a rate.
	paced = 4
)

// outcome is what a job came to so far.
type outcome struct {
	matched, done, failed int
	groups                map[backlog.Group]int
	failures              []backlog.Failure // the first ones
	unknown               []string
}

// run does the job until it is done or ctx ends. A step that has begun is
// finished, so that what is told of it is true.
func (j *job) run(ctx context.Context, desk backlog.Desk) (*outcome, error) {
	o := &outcome{groups: make(map[backlog.Group]int), unknown: slices.Clone(j.job.IDs)}
	var bar *progressbar.ProgressBar
	for {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		j.job.Max = j.chunk(o.matched)
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepPatience)
		step, err := j.do(desk, patient, j.job)
		cancel()
		if err != nil {
			return o, err
		}
		o.add(step)
		if bar == nil {
			bar = j.bar(step.Total)
		}
		_ = bar.Add(step.Seen) // a bar that cannot be drawn changes nothing
		if j.job.Cursor = step.Cursor; step.Cursor == "" || j.limit > 0 && o.matched >= j.limit {
			_ = bar.Finish()
			return o, nil
		}
		j.pause(ctx, step.Done)
	}
}

// chunk returns how many the next step may do; 0: as many as it takes.
func (j *job) chunk(matched int) int {
	n := 0
	if j.limit > 0 {
		n = j.limit - matched
	}
	if j.perSecond > 0 && !j.job.DryRun {
		at := max(1, int(j.perSecond/paced))
		if n == 0 || at < n {
			n = at
		}
	}
	return n
}

// pause waits as the rate asks for after n were done.
func (j *job) pause(ctx context.Context, n int) {
	if j.perSecond <= 0 || j.job.DryRun {
		return
	}
	t := time.NewTimer(time.Duration(float64(n) / j.perSecond * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// bar returns a progress bar, which shows on a terminal only.
func (j *job) bar(total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(max(total, 1),
		progressbar.OptionSetWriter(j.p.Stderr),
		progressbar.OptionSetVisibility(j.p.StderrTerminal && !j.job.DryRun),
		progressbar.OptionSetDescription(j.what+"s"),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

func (o *outcome) add(s *backlog.Step) {
	o.matched += s.Matched
	o.done += s.Done
	o.failed += len(s.Failed)
	for _, g := range s.Groups {
		n := g.Count
		g.Count = 0
		o.groups[g] += n
	}
	o.failures = append(o.failures, s.Failed[:min(len(s.Failed), maxNamed-len(o.failures))]...)
	for _, id := range s.Found {
		if i := slices.Index(o.unknown, id); i >= 0 {
			o.unknown = slices.Delete(o.unknown, i, i+1)
		}
	}
}

// list returns the groups, the largest first.
func (o *outcome) list() []backlog.Group {
	all := make([]backlog.Group, 0, len(o.groups))
	for g, n := range o.groups {
		g.Count = n
		all = append(all, g)
	}
	slices.SortFunc(all, backlog.CompareGroups)
	return all
}

// execute does the job and prints what came of it.
func (j *job) execute(ctx context.Context, cmd *cobra.Command) error {
	return j.open(ctx, func(ctx context.Context, desk *app.Desk) error {
		o, err := j.run(ctx, desk)
		stopped := interrupted(ctx, err)
		var wrong strictyaml.Problems
		if errors.As(err, &wrong) && o.matched == 0 {
			return err // the rules cannot be loaded: nothing was tried
		}
		if err := j.print(cmd.OutOrStdout(), o, err == nil); err != nil {
			return err
		}
		j.printFailures(o)
		switch {
		case err != nil:
			return fmt.Errorf("%w\n%s %s before; %s", stopped, plural(o.done, j.what), j.done, theRest(err))
		case o.failed > 0:
			return fmt.Errorf("%s could not be %s", plural(o.failed, j.what), j.done)
		case len(o.unknown) > 0:
			return hint.New(plural(len(o.unknown), "id")+" not found", "`"+cmd.Parent().CommandPath()+" list` shows what there is", nil)
		}
		return nil
	})
}

// theRest says what err means for what was not reported as done.
func theRest(err error) string {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "what was under way when the connection broke may be done as well"
	}
	return "the rest is as it was"
}

func (j *job) printFailures(o *outcome) {
	const shown = 20
	for i, f := range o.failures {
		if i == shown {
			fmt.Fprintf(j.p.Stderr, "… and %s more\n", comma(int64(o.failed-shown)))
			break
		}
		fmt.Fprintf(j.p.Stderr, "%s stays: %s\n", printable(f.ID), printable(f.Error))
	}
	if j.format == forPrograms {
		return
	}
	for _, id := range o.unknown {
		fmt.Fprintf(j.p.Stderr, "there is no %s %s\n", j.what, printable(id))
	}
}

// print prints what a job came to. What it did not find is only known of one
// that was not cut short.
func (j *job) print(w io.Writer, o *outcome, complete bool) error {
	if !complete {
		o.unknown = nil
	}
	if j.format == forPrograms {
		return j.printJSON(w, o, complete)
	}
	if o.matched > 0 {
		if err := printGroups(w, o.list()); err != nil {
			return err
		}
	}
	would := ""
	if j.job.DryRun {
		would = "would be "
	}
	gone := ""
	if n := o.matched - o.done - o.failed; complete && n > 0 {
		gone = fmt.Sprintf(", %s gone meanwhile", comma(int64(n)))
	}
	_, err := fmt.Fprintf(w, "%s %s%s%s\n", plural(o.done, j.what), would, j.done, gone)
	return err
}

func printGroups(w io.Writer, groups []backlog.Group) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	reasons := groups[0].Reason != ""
	head := "COUNT\tSINK\tRULE\tSEND"
	if reasons {
		head += "\tREASON"
	}
	fmt.Fprintln(t, head)
	for _, g := range groups {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s", comma(int64(g.Count)), printable(g.Sink), printable(g.Rule), printable(g.Send))
		if reasons {
			fmt.Fprintf(t, "\t%s", g.Reason)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printJSON prints an outcome for programs. The number that were done has the
// name of the deed.
func (j *job) printJSON(w io.Writer, o *outcome, complete bool) error {
	result := map[string]any{
		"matched": o.matched, j.done: o.done, "failed": append([]backlog.Failure{}, o.failures...), "failed_total": o.failed,
		"unknown": append([]string{}, o.unknown...), "groups": o.list(), "dry_run": j.job.DryRun, "complete": complete,
	}
	return printJSON(w, result)
}

// rateFlag is a rate as it is typed.
type rateFlag float64

func (r *rateFlag) String() string {
	if *r == 0 {
		return ""
	}
	return fmt.Sprintf("%g/s", float64(*r))
}

// Set implements pflag.Value.
func (r *rateFlag) Set(s string) error {
	v, err := strictyaml.ParseRate(s)
	*r = rateFlag(v.PerSecond())
	return err
}

// Type implements pflag.Value.
func (*rateFlag) Type() string { return "rate" }
