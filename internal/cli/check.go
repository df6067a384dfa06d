package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"keyhook"
	"keyhook/internal/app"
	"keyhook/internal/compare"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

func checkCommand() *cobra.Command {
	var path string
	var format output
	var strict bool
	var against string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and the rules, without connecting to anything",
		Long: `Reads the configuration and every rule file it names, and prints what would run.
Everything that is wrong is reported at once, with its place; the exit code is
then 2. Nothing is connected to, and no secret is shown.

What looks wrong is a warning: conditions that can never hold, or always do; rules
that do what another one does; fields that may not be there; sinks that nothing is
sent to, give up early or write to the etcd that is watched. With --strict a
warning makes the exit code 1.

With --against running it says what would change if the process that runs with
the same data directory took these files: rules, sinks and ranges added, removed,
changed and renamed, what removed ones still owe, and settings that need a restart.
--against FILE compares with another keyhook.yaml instead. Nothing is changed; that
there are differences is no failure.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := app.Check(path)
			var problems strictyaml.Problems
			if errors.As(err, &problems) && format == forPrograms {
				err = errors.Join(printJSON(cmd.OutOrStdout(), failedCheck{Config: path, Errors: warnings(problems)}), err)
			}
			if err != nil {
				return err
			}
			s := summarize(plan)
			if against != "" {
				if s.Changes, err = changesAgainst(cmd.Context(), against, plan); err != nil {
					return err
				}
				s.against = against
			}
			if format == forPrograms {
				err = printJSON(cmd.OutOrStdout(), s)
			} else if err = s.print(cmd.OutOrStdout()); err == nil {
				for _, w := range plan.Warnings {
					if _, err := fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w.Report()); err != nil {
						return err
					}
				}
			}
			if err == nil && strict && len(plan.Warnings) > 0 {
				err = fmt.Errorf("%s, and with --strict that is a failure", counted(len(plan.Warnings), "warning"))
			}
			return err
		},
	}
	configFlag(cmd, &path, defaultConfig, "the configuration")
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&strict, "strict", false, "fail if there are warnings")
	cmd.Flags().StringVar(&against, "against", "", "say what would change, against what is `running` or another configuration file")
	return cmd
}

// failedCheck is what is printed for programs in place of a summary.
type failedCheck struct {
	Config string    `json:"config"`
	Errors []warning `json:"errors"`
}

// warnings returns problems as they are printed for programs.
func warnings(problems []strictyaml.Problem) []warning {
	all := []warning{}
	for _, p := range problems {
		all = append(all, warning{
			At: p.Position().String(), Path: p.Path, Line: p.Line, Column: p.Column,
			Code: p.Code, Message: p.Message, Hint: p.Hint, Snippet: p.Snippet,
		})
	}
	return all
}

// summary is what a configuration comes to.
type summary struct {
	Config    string    `json:"config"`
	Endpoints []string  `json:"endpoints"`
	Start     string    `json:"start"`
	OnGap     string    `json:"on_gap"`
	Source    string    `json:"source,omitempty"`
	Data      string    `json:"data"`
	Admin     string    `json:"admin"`
	Ranges    []span    `json:"ranges"`
	Derived   bool      `json:"ranges_derived"` // from the rules, for want of etcd.watch
	Rules     []rule    `json:"rules"`
	Sinks     []sink    `json:"sinks"`
	Warnings  []warning `json:"warnings"`
	// Changes are against what was asked for, if anything was.
	Changes *compare.Changes `json:"changes,omitempty"`
	against string
}

// span is a range of keys, [start, end).
type span struct {
	Text        string `json:"range"`
	Start       string `json:"start,omitempty"`
	StartBase64 []byte `json:"start_base64,omitempty"` // where it is not UTF-8
	End         string `json:"end,omitempty"`
	EndBase64   []byte `json:"end_base64,omitempty"`
}

type rule struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	At          string   `json:"at"`
	Keys        []string `json:"keys"`
	Sinks       []string `json:"sinks"`
}

type sink struct {
	Name        string   `json:"name"`
	At          string   `json:"at"`
	Type        string   `json:"type"`
	Target      string   `json:"target"`           // without what may be secret
	Mode        string   `json:"mode,omitempty"`   // of NATS: core, jetstream or request
	Stream      string   `json:"stream,omitempty"` // of JetStream
	Signed      bool     `json:"signed"`
	Secrets     []string `json:"secrets,omitempty"` // where they come from
	Concurrency int      `json:"concurrency"`
	Rate        float64  `json:"rate_per_second,omitempty"`
}

type warning struct {
	At      string `json:"at"`
	Path    string `json:"path"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Snippet string `json:"snippet,omitempty"`
}

func summarize(p *app.Plan) summary {
	c := p.Config
	s := summary{
		Config: c.Path, Endpoints: c.Etcd.Endpoints, Start: c.Etcd.Start.String(), OnGap: string(c.Etcd.OnGap),
		Source: c.Source, Data: c.Checkpoint.Dir, Admin: c.Admin.Listen, Derived: c.Etcd.Watch == nil,
		Ranges: []span{}, Rules: []rule{}, Sinks: []sink{},
	}
	for _, r := range p.Ranges {
		s.Ranges = append(s.Ranges, newSpan(r))
	}
	for _, r := range p.Rules.Rules() {
		row := rule{Name: r.Name, Description: r.Description, At: r.Position.String(), Keys: r.Keys, Sinks: []string{}}
		for _, send := range r.Sends {
			if !slices.Contains(row.Sinks, send.Sink) {
				row.Sinks = append(row.Sinks, send.Sink)
			}
		}
		s.Rules = append(s.Rules, row)
	}
	for _, spec := range p.Rules.Sinks() {
		s.Sinks = append(s.Sinks, newSink(spec))
	}
	s.Warnings = warnings(p.Warnings)
	return s
}

func newSpan(r keyhook.Range) span {
	s := span{Text: r.String()}
	s.Start, s.StartBase64 = keyText(r.Start)
	s.End, s.EndBase64 = keyText(r.End)
	return s
}

func newSink(spec rules.SinkSpec) sink {
	s := sink{Name: spec.Name, At: spec.Position.String(), Concurrency: spec.Concurrency, Rate: spec.Rate}
	if spec.NATS != nil {
		return s.toNATS(spec.NATS)
	}
	w := spec.Webhook
	if w == nil {
		return s
	}
	s.Type, s.Target, s.Signed = "webhook", origin(w.URL.Reveal()), len(w.Sign) > 0
	for _, h := range w.Headers {
		s.Secrets = append(s.Secrets, "header "+h.Name+": "+h.Value.From())
	}
	for _, secret := range w.Sign {
		s.Secrets = append(s.Secrets, "signature: "+secret.From())
	}
	return s
}

// toNATS describes a NATS sink.
func (s sink) toNATS(n *rules.NATSSpec) sink {
	var servers []string
	for server := range strings.SplitSeq(n.URL.Reveal(), ",") {
		servers = append(servers, origin(strings.TrimSpace(server)))
	}
	s.Type, s.Target, s.Mode = "nats", strings.Join(servers, ","), "core"
	switch {
	case n.JetStream:
		s.Mode, s.Stream = "jetstream", n.Stream
	case n.Request:
		s.Mode = "request"
	}
	for _, secret := range []struct {
		name  string
		value strictyaml.Secret
	}{{"user", n.User}, {"password", n.Password}, {"token", n.Token}, {"nkey", n.NKey}} {
		if secret.value.IsSet() {
			s.Secrets = append(s.Secrets, secret.name+": "+secret.value.From())
		}
	}
	if n.CredsFile != "" {
		s.Secrets = append(s.Secrets, "credentials: file "+n.CredsFile)
	}
	return s
}

// how says what is to be known of a sink beside its target.
func (s *sink) how() string {
	switch {
	case s.Stream != "":
		return s.Mode + " " + s.Stream
	case s.Mode != "":
		return s.Mode
	case s.Signed:
		return "signed"
	default:
		return "not signed"
	}
}

// origin is what of a webhook's URL may be shown: the rest is often the secret
// itself.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a URL)"
	}
	shown := u.Scheme + "://" + u.Host
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		shown += "/…"
	}
	return shown
}

// print writes s for people.
func (s *summary) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	from := ""
	if s.Derived {
		from = ", from the rules' keys"
	}
	fmt.Fprintf(w, "%s is fine\n\n", s.Config)
	fmt.Fprintf(w, "etcd\t%s\n", strings.Join(s.Endpoints, ", "))
	fmt.Fprintf(w, "source\t%s\n", cmp.Or(s.Source, "/etcd/<cluster id>"))
	fmt.Fprintf(w, "start\t%s\n", s.Start)
	fmt.Fprintf(w, "data\t%s\n", s.Data)
	fmt.Fprintf(w, "admin\thttp://%s\n", s.Admin)

	fmt.Fprintf(w, "\n%s%s\n", counted(len(s.Ranges), "range"), from)
	for _, r := range s.Ranges {
		fmt.Fprintf(w, "  %s\n", cmp.Or(r.Text, "(all keys)"))
	}
	fmt.Fprintf(w, "\n%s\n", counted(len(s.Rules), "rule"))
	for _, r := range s.Rules {
		fmt.Fprintf(w, "  %s\t%s\t→ %s\t%s\n", r.Name, strings.Join(r.Keys, ", "), strings.Join(r.Sinks, ", "), r.At)
	}
	fmt.Fprintf(w, "\n%s\n", counted(len(s.Sinks), "sink"))
	for _, k := range s.Sinks {
		fmt.Fprintf(w, "  %s\t%s %s\t%s\t%s\n", k.Name, k.Type, k.Target, k.how(), k.At)
		for _, secret := range k.Secrets {
			fmt.Fprintf(w, "  \t  %s\n", secret)
		}
	}
	if err := w.Flush(); err != nil || s.Changes == nil {
		return err
	}
	return printChanges(out, s.against, s.Changes)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
