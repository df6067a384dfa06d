package rules

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"keyhook/internal/strictyaml"
)

// FieldProblem is what is wrong with one field of a sink. It holds no secret.
type FieldProblem struct {
	// Field is written as in the file, below the sink's kind: "url",
	// "headers.X-Team", "sign[0].secret", "retry_on".
	Field   string
	Message string // reads on from the field: "must begin with https://"
	Hint    string // may be empty
}

// sinkLoader turns entries into sinks.
type sinkLoader struct {
	check     func(WebhookSpec) []FieldProblem
	checkNATS func(NATSSpec) []FieldProblem
	problems  strictyaml.Problems
}

func (l *sinkLoader) fail(at strictyaml.Position, hint, format string, args ...any) {
	l.problems.Add(at, hint, format, args...)
}

// load returns the sink of e with its defaults.
func (l *sinkLoader) load(e *sinkEntry) SinkSpec {
	spec := SinkSpec{
		Name:        e.Name.Value,
		Position:    e.Name.Position,
		Concurrency: defaultConcurrency,
		Retry:       l.retry(e.Retry),
		DeadLetter:  e.DeadLetter.Value,
		Breaker:     l.breaker(e.Breaker),
	}
	switch {
	case e.Webhook != nil && e.NATS != nil:
		l.fail(e.Position, "make two sinks of it", "sink %q has both webhook and nats", spec.Name)
	case e.Webhook != nil:
		spec.Webhook = l.webhook(e.Webhook)
	case e.NATS != nil:
		spec.NATS = l.nats(e.NATS)
		if !spec.NATS.Request {
			spec.Concurrency = min(defaultInFlight, spec.NATS.MaxPending)
		}
	default:
		l.fail(e.Position, "webhook: {url: https://...} or nats: {url: nats://...}", "sink %q does not say where it delivers to", spec.Name)
	}
	if c := e.Concurrency; c != nil && c.IsSet() {
		if c.Value < 1 || c.Value > maxConcurrency {
			l.fail(c.Position, "", "concurrency must be between 1 and %d", maxConcurrency)
		}
		spec.Concurrency = c.Value
	}
	if m := e.MaxOwed; m != nil && m.IsSet() {
		if m.Value < 0 {
			l.fail(m.Position, "0 means no limit", "max_owed must not be negative")
		}
		spec.MaxOwed = m.Value
	}
	if e.Rate != nil {
		spec.Rate = e.Rate.PerSecond()
	}
	return spec
}

const (
	maxConcurrency = 10_000
	maxMultiplier  = 100
	maxFailures    = 10_000
	maxProbes      = 100
	maxOpen        = 24 * time.Hour
)

func (l *sinkLoader) breaker(e *breakerEntry) BreakerSpec {
	var spec BreakerSpec
	if e == nil {
		return spec
	}
	spec.Off = e.off
	if f := e.Failures; f != nil && f.IsSet() {
		if f.Value < 1 || f.Value > maxFailures {
			l.fail(f.Position, "breaker: off means that it never opens", "failures must be between 1 and %d", maxFailures)
		}
		spec.Failures = f.Value
	}
	if o := e.Open; o != nil && o.IsSet() {
		spec.Open = o.Value.Std()
		if spec.Open <= 0 || spec.Open > maxOpen {
			l.fail(o.Position, "", "open must be above 0 and at most %s", strictyaml.Duration(maxOpen))
		}
	}
	if p := e.Probes; p != nil && p.IsSet() {
		if p.Value < 1 || p.Value > maxProbes {
			l.fail(p.Position, "", "probes must be between 1 and %d", maxProbes)
		}
		spec.Probes = p.Value
	}
	return spec
}

func (l *sinkLoader) retry(e *retryEntry) RetrySpec {
	spec := defaultRetry()
	if e == nil {
		return spec
	}
	if e.Initial != nil && e.Initial.IsSet() {
		spec.Initial = e.Initial.Value.Std()
		if spec.Initial <= 0 {
			l.fail(e.Initial.Position, "", "initial must be above 0")
		}
	}
	if e.Max != nil && e.Max.IsSet() {
		spec.Max = e.Max.Value.Std()
		if spec.Max <= 0 {
			l.fail(e.Max.Position, "", "max must be above 0")
		}
	}
	if spec.Initial > spec.Max {
		at := e.Initial
		if at == nil || !at.IsSet() {
			at = e.Max
		}
		l.fail(at.Position, "", "initial (%s) is longer than max (%s)", spec.Initial, spec.Max)
	}
	if m := e.Multiplier; m != nil && m.IsSet() {
		spec.Multiplier = m.Value
		if !(m.Value >= 1 && m.Value <= maxMultiplier) {
			l.fail(m.Position, "1 keeps the interval, 2 doubles it", "multiplier must be between 1 and %d", maxMultiplier)
		}
	}
	if j := e.Jitter; j != nil && j.IsSet() {
		spec.Jitter = j.Value
		if !(j.Value >= 0 && j.Value <= 1) {
			l.fail(j.Position, "0.2 spreads each interval by 20 % either way", "jitter must be between 0 and 1")
		}
	}
	if a := e.MaxAttempts; a != nil && a.IsSet() {
		spec.MaxAttempts = a.Value
		if a.Value < 0 {
			l.fail(a.Position, "0 means no limit", "max_attempts must not be negative")
		}
	}
	if e.MaxAge != nil {
		spec.MaxAge = e.MaxAge.Std()
	}
	return spec
}

func (l *sinkLoader) webhook(e *webhookEntry) *WebhookSpec {
	p := places{"url": e.URL.Position}
	spec := &WebhookSpec{
		URL:     e.URL.Value,
		Timeout: placed(p, "timeout", e.Timeout, strictyaml.Duration(defaultTimeout)).Std(),
		RetryOn: sorted(placed(p, "retry_on", e.RetryOn, nil)),
		DeadOn:  sorted(placed(p, "dead_on", e.DeadOn, nil)),
	}
	for name, value := range e.Headers {
		spec.Headers = append(spec.Headers, HeaderSpec{Name: name, Value: value.Value})
		p["headers."+name] = value.Position
	}
	slices.SortFunc(spec.Headers, func(a, b HeaderSpec) int { return strings.Compare(a.Name, b.Name) })
	complete := spec.URL.IsSet()
	for i, s := range e.Sign {
		spec.Sign = append(spec.Sign, s.Secret.Value)
		complete = complete && s.Secret.Value.IsSet()
		p[fmt.Sprintf("sign[%d].secret", i)] = s.Secret.Position
	}
	if spec.Timeout <= 0 {
		l.fail(p["timeout"], "", "timeout must be above 0")
	}
	if complete { // what is missing has been reported
		l.reject(l.check(*spec), p, e.Position)
	}
	return spec
}

// reject reports what is wrong with fields at their places; what has none is
// wrong with the whole.
func (l *sinkLoader) reject(problems []FieldProblem, p places, whole strictyaml.Position) {
	for _, problem := range problems {
		at, ok := p[problem.Field]
		if !ok {
			at = whole
		}
		l.fail(at, problem.Hint, "%s %s", problem.Field, problem.Message)
	}
}

// places are where fields stand, by their names.
type places map[string]strictyaml.Position

// placed returns the value of a field and notes its place, or returns what it is
// by default.
func placed[T any](p places, field string, v *strictyaml.At[T], otherwise T) T {
	if v == nil || !v.IsSet() {
		return otherwise
	}
	p[field] = v.Position
	return v.Value
}

func sorted(statuses []int) []int {
	s := slices.Clone(statuses)
	slices.Sort(s)
	return slices.Compact(s)
}

// checkWebhook is the check where the caller brings none.
func checkWebhook(spec WebhookSpec) []FieldProblem {
	var ps []FieldProblem
	// What the parser says may quote a password: it stays out.
	u, err := url.Parse(spec.URL.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		ps = append(ps, FieldProblem{Field: "url", Message: "is not a valid URL", Hint: "write an absolute one, such as https://hooks.example.com/path"})
	}
	for _, list := range []struct {
		field    string
		statuses []int
	}{{"retry_on", spec.RetryOn}, {"dead_on", spec.DeadOn}} {
		for _, status := range list.statuses {
			if status < 300 || status > 599 {
				ps = append(ps, FieldProblem{Field: list.field, Message: fmt.Sprintf("has %d, which is no status between 300 and 599", status), Hint: "2xx always means delivered"})
			}
		}
	}
	for _, status := range spec.RetryOn {
		if slices.Contains(spec.DeadOn, status) {
			ps = append(ps, FieldProblem{Field: "dead_on", Message: fmt.Sprintf("has %d, which stands in retry_on as well", status)})
		}
	}
	return ps
}
