package rules

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// Load compiles files into a set. Its error is of type [strictyaml.Problems]
// and holds everything that is wrong with any of the files; no part of them is
// used then. The order of the files is that in which rules are evaluated.
func Load(files []File, opts Options) (*Set, error) {
	l := &loader{opts: opts, sinks: map[string]SinkSpec{}, names: map[string]strictyaml.Position{}}
	if l.opts.CheckWebhook == nil {
		l.opts.CheckWebhook = checkWebhook
	}
	if len(files) == 0 {
		l.problems = append(l.problems, strictyaml.Problem{Path: "rules", Message: "there are no rule files"})
		return nil, l.problems.Err()
	}
	entries := l.read(files)
	set := l.compile(entries)
	if len(entries) == 0 && len(l.problems) == 0 {
		l.fail(strictyaml.Position{Path: files[0].Path, Line: 1, Column: 1}, "", "there is no rule in any file")
	}
	for _, source := range l.sources {
		source.Quote(l.problems)
		source.Quote(l.warnings)
	}
	if err := l.problems.Err(); err != nil {
		return nil, err
	}
	l.warnings.Sort()
	set.warnings = l.warnings
	return set, nil
}

// loader gathers the parts of a set, and what is wrong with them.
type loader struct {
	opts     Options
	sinks    map[string]SinkSpec
	names    map[string]strictyaml.Position // of rules
	problems strictyaml.Problems
	warnings strictyaml.Problems
	sources  []*strictyaml.Source
}

func (l *loader) fail(at strictyaml.Position, hint, format string, args ...any) {
	l.problems.Add(at, hint, format, args...)
}

// read decodes the files and defines their sinks.
func (l *loader) read(files []File) []*ruleEntry {
	var entries []*ruleEntry
	var defined []*sinkEntry
	for _, f := range files {
		var file ruleFile
		source, problems := l.opts.Environment.DecodeSource(f.Path, f.Data, &file)
		l.sources = append(l.sources, source)
		l.problems = append(l.problems, problems...)
		sinks := sinkLoader{check: l.opts.CheckWebhook, checkNATS: l.opts.CheckNATS}
		for _, e := range file.Sinks {
			if e == nil {
				continue // has been reported, as everything that is nil below
			}
			spec := sinks.load(e)
			if !named(&l.problems, "sink", e.Name) {
				continue
			}
			if first, dup := l.sinks[spec.Name]; dup {
				l.fail(e.Name.Position, "names are unique across all files", "sink %q is already defined at %s", spec.Name, first.Position)
				continue
			}
			for _, old := range e.Was {
				spec.Was = append(spec.Was, old.Value)
			}
			l.sinks[spec.Name] = spec
			defined = append(defined, e)
		}
		l.problems = append(l.problems, sinks.problems...)
		for _, e := range file.Rules {
			if e != nil {
				entries = append(entries, e)
			}
		}
	}
	today, renamed := map[string]strictyaml.Position{}, map[string]strictyaml.Position{}
	for name, spec := range l.sinks {
		today[name] = spec.Position
	}
	for _, e := range defined {
		if e.DeadLetter.IsSet() {
			l.deadLetterTo(e)
		}
		l.renamed("sink", e.Was, today, renamed)
	}
	return entries
}

// deadLetterTo checks that a sink's dead letters are told to another one.
func (l *loader) deadLetterTo(e *sinkEntry) {
	to := e.DeadLetter
	switch _, defined := l.sinks[to.Value]; {
	case to.Value == e.Name.Value:
		l.fail(to.Position, "name another sink: this one has just failed", "sink %q cannot be told of its own dead letters", to.Value)
	case !defined:
		l.fail(to.Position, strictyaml.DidYouMean(to.Value, slices.Sorted(maps.Keys(l.sinks))), "sink %q is not defined", to.Value)
	}
}

// named reports whether a name can be one, and adds why it cannot. A missing name
// has been reported.
func named(ps *strictyaml.Problems, what string, name strictyaml.At[string]) bool {
	if !name.IsSet() {
		return false
	}
	switch s := name.Value; {
	case s == "":
		ps.Add(name.Position, "", "a %s needs a name", what)
	case len(s) > maxName:
		ps.Add(name.Position, "", "the name of a %s must not be longer than %d bytes", what, maxName)
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		ps.Add(name.Position, "", "the name of a %s must not begin or end with a space, nor have control characters", what)
	default:
		return true
	}
	return false
}

// compile builds the rules and puts the set together.
func (l *loader) compile(entries []*ruleEntry) *Set {
	l.nameRules(entries)
	known := slices.Sorted(maps.Keys(l.sinks))
	plans := &planner{options: l.opts.language}
	if p := l.opts.Previous; p != nil {
		plans = p.planner
	}
	set := &Set{states: newStatePool(), budget: eventBudget, compiled: map[string]compiled{}, planner: plans}
	built, compilers, err := l.build(entries, known, plans)
	if err != nil {
		l.problems = append(l.problems, strictyaml.Problem{Path: "rules", Message: err.Error()})
		return set
	}
	for _, c := range compilers {
		maps.Copy(set.compiled, c.cache)
	}
	for _, b := range built {
		l.problems = append(l.problems, b.problems...)
		l.warnings = append(l.warnings, b.warnings...)
		set.rules = append(set.rules, b.rule)
		set.ranges = append(set.ranges, b.rule.ranges()...)
	}
	for _, name := range known {
		set.sinks = append(set.sinks, l.sinks[name])
	}
	set.index = newIndex(set.rules, func(r *rule) bool { return !r.grouped })
	if slices.ContainsFunc(set.rules, func(r *rule) bool { return r.grouped }) {
		set.together = newIndex(set.rules, func(r *rule) bool { return r.grouped })
	}
	if len(l.problems) > 0 || len(compilers) == 0 {
		return set
	}
	for _, g := range set.index.groups {
		g.divide(set.rules, compilers[0].attribute)
	}
	if l.opts.Lint != nil {
		l.warnings = append(l.warnings, l.lint(set, entries, compilers[0].env)...)
	}
	return set
}

// nameRules checks the names of rules, those of today and those of before.
func (l *loader) nameRules(entries []*ruleEntry) {
	for _, e := range entries {
		if !named(&l.problems, "rule", e.Name) {
			continue
		}
		if first, dup := l.names[e.Name.Value]; dup {
			l.fail(e.Name.Position, "names are unique across all files", "rule %q is already defined at %s", e.Name.Value, first)
			continue
		}
		l.names[e.Name.Value] = e.Name.Position
	}
	renamed := map[string]strictyaml.Position{}
	for _, e := range entries {
		l.renamed("rule", e.Was, l.names, renamed)
	}
}

// build compiles the rules, on all processors. known are the names of the sinks.
func (l *loader) build(entries []*ruleEntry, known []string, plans *planner) ([]*builder, []*compiler, error) {
	built := make([]*builder, len(entries))
	errs := make([]error, min(runtime.GOMAXPROCS(0), len(entries)))
	compilers := make([]*compiler, len(errs))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			c, err := newCompiler(plans, l.opts.language...)
			if err != nil {
				errs[w] = err
				return
			}
			compilers[w] = c
			c.keep = l.opts.Lint != nil
			if p := l.opts.Previous; p != nil {
				c.previous = p.compiled
			}
			for i := w; i < len(entries); i += len(errs) {
				built[i] = &builder{c: c, opts: l.opts, sinks: l.sinks, known: known}
				built[i].build(entries[i])
			}
		})
	}
	wg.Wait()
	return built, compilers, cmp.Or(errs...)
}

// builder makes one rule.
type builder struct {
	c        *compiler
	opts     Options
	sinks    map[string]SinkSpec
	known    []string // names of sinks
	rule     *rule
	scopeKey string
	problems strictyaml.Problems
	warnings strictyaml.Problems
}

func (b *builder) fail(at strictyaml.Position, hint, format string, args ...any) {
	b.problems.Add(at, hint, format, args...)
}

func (b *builder) build(e *ruleEntry) {
	r := &rule{name: e.Name.Value, description: e.Description, position: e.Name.Position}
	b.rule = r
	keysOK := b.keys(e)
	for _, old := range e.Was {
		r.was = append(r.was, old.Value)
	}
	b.c.env.scope = &scope{captures: r.captures}
	if !keysOK {
		// The captures are not known: whatever the expressions say about them
		// would be a second report of the same mistake.
		b.c.env.scope.captures = slices.Concat(r.captures, mentioned(e))
	}
	b.together(e)
	b.variables(e.Vars)
	if e.When.IsSet() {
		r.when = b.expression("when", kindCondition, e.When)
	}
	b.modes(e)
	b.timing(e)
	if len(e.Send) == 0 && e.Position.Line > 0 && e.Send != nil {
		b.fail(e.Position, "", "a rule needs a send")
	}
	names := map[string]strictyaml.Position{}
	for _, s := range e.Send {
		if s != nil {
			b.send(s, names)
		}
	}
}

// expression compiles one expression of the rule; nil means that it has a
// mistake, which is noted.
func (b *builder) expression(what string, k kind, source strictyaml.Text) *expression {
	x, ps := b.c.compile(what, k, source, b.scopeKey)
	b.problems = append(b.problems, ps...)
	return x
}

func (b *builder) modes(e *ruleEntry) {
	choose := func(field string, v *strictyaml.At[string], names ...string) int {
		if v == nil || !v.IsSet() {
			return 0
		}
		i := slices.Index(names, v.Value)
		if i < 0 {
			b.fail(v.Position, strictyaml.DidYouMean(v.Value, names), "%q is not an %s", v.Value, field)
		}
		return max(i, 0)
	}
	b.rule.order = []keyhook.Order{keyhook.OrderKey, keyhook.OrderNone}[choose("order", e.Order, "key", "none")]
	b.rule.onFailure = []keyhook.OnFailure{keyhook.Block, keyhook.Supersede}[choose("on_failure", e.OnFailure, "block", "supersede")]
	if b.rule.order == keyhook.OrderNone && e.OnFailure != nil {
		b.warnings.Add(e.OnFailure.Position, "without an order no change waits for another one", "on_failure has no effect with order: none")
	}
}

func (b *builder) send(e *sendEntry, names map[string]strictyaml.Position) {
	s := &send{sink: e.Sink.Value, name: e.Sink.Value}
	at := e.Sink.Position
	sink, defined := b.sinks[s.sink]
	if !defined && at.Line > 0 {
		hint := strictyaml.DidYouMean(s.sink, b.known)
		if len(b.known) == 0 {
			hint = "no file defines a sink"
		}
		b.fail(at, hint, "sink %q is not defined", s.sink)
	}
	if e.Name != nil && e.Name.IsSet() {
		at = e.Name.Position
		s.name = e.Name.Value
		named(&b.problems, "send", *e.Name)
	}
	if strings.HasPrefix(s.name, storySend) {
		b.fail(at, "choose another name", "names of sends that begin with %q are kept for what tells of dead letters", storySend)
	}
	if first, dup := names[s.name]; dup && at.Line > 0 {
		b.fail(at, "give each send a name", "the rule has a send %q already, at %s", s.name, first)
	}
	names[s.name] = at
	if e.Body.IsSet() {
		s.body = b.expression("body", kindBody, e.Body)
	}
	seen := map[string]bool{}
	for _, h := range e.Headers {
		lower := strings.ToLower(h.name)
		switch hint, err := checkHeaderName(lower); {
		case err != nil:
			b.fail(h.position, hint, "header %q %s", h.name, err)
		case seen[lower]:
			b.fail(h.position, "names of headers are the same in upper and lower case", "header %q is there twice", h.name)
		}
		seen[lower] = true
		value := b.expression(fmt.Sprintf("header %q", h.name), kindHeader, h.text)
		s.headers = append(s.headers, header{name: h.name, value: value})
	}
	if e.Subject.IsSet() {
		if sink.Webhook != nil && !b.opts.routes {
			b.fail(e.Subject.Position, "remove it, or put it into a header", "a webhook has no subject")
		}
		s.subject = b.expression("subject", kindSubject, e.Subject)
	} else if sink.NATS != nil {
		b.fail(e.Sink.Position, `subject: '"audit." + nats.token(event.key)'`, "a send to NATS needs a subject")
	}
	b.rule.sends = append(b.rule.sends, s)
}
