package ruletest

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"keyhook"
	"keyhook/dispatcher"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// epoch is the clock at the beginning of every test.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// longestWait bounds a step that waits for the end of what it began: retries
// that never end would have none.
const longestWait = 31 * 24 * time.Hour

// FileResult is what the tests of one file came to.
type FileResult struct {
	Path  string
	Tests []TestResult
}

// Failed returns how many tests have failed.
func (r *FileResult) Failed() int {
	n := 0
	for _, t := range r.Tests {
		if len(t.Failures) > 0 {
			n++
		}
	}
	return n
}

// TestResult is what one test came to.
type TestResult struct {
	Name     string
	Position strictyaml.Position
	Failures []Failure     // none: it passed
	Elapsed  time.Duration // on the clock of the test
	Took     time.Duration // really
}

// Failure is one thing that is not as expected.
type Failure struct {
	Position strictyaml.Position
	Step     int // from 1; 0 where the test has one only
	Message  string
	Detail   string // of several lines, such as a diff; may be empty

	update *update // what would make it right
}

// Run runs the tests of f whose names match the pattern; nil: all of them.
func (f *File) Run(pattern *regexp.Regexp) FileResult {
	res := FileResult{Path: f.Path}
	for _, t := range f.spec.Tests {
		if pattern != nil && !pattern.MatchString(t.Title.Value) {
			continue
		}
		began := time.Now()
		p, err := f.play(t)
		one := TestResult{Name: t.Title.Value, Position: t.Title.Position}
		if err != nil {
			one.Failures = []Failure{{Position: t.Position, Message: err.Error()}}
		} else {
			p.run()
			one.Failures, one.Elapsed = p.failures, p.sim.Now().Sub(epoch)
		}
		one.Took = time.Since(began)
		res.Tests = append(res.Tests, one)
	}
	return res
}

// play is one test under way.
type play struct {
	rs        *ruleSet
	test      *testSpec
	only      []string // rules that count; nil: all
	etcd      *etcd
	sim       *dispatcher.Simulator
	receivers map[string]*receiver
	leases    map[string]*heldLease
	result    rules.Result

	step     int
	window   window
	failures []Failure
	onlooker func(window) // takes the place of the comparisons; may be nil
}

// heldLease is a lease of a test.
type heldLease struct {
	id     int64
	ttl    time.Duration
	lapses time.Time // zero: it is kept alive, or gone
}

// window is what happens in one step.
type window struct {
	arrivals []*arrival
	deaths   []*death
	errors   []evalError
}

// arrival is a delivery that a sink has taken.
type arrival struct {
	*keyhook.Delivery
	at       time.Duration
	attempts int
	taken    bool // by an expectation
}

// death is a dead letter.
type death struct {
	dispatcher.Ending
	at    time.Duration
	taken bool
}

// evalError is a condition that failed.
type evalError struct {
	rules.EvalError
	key string
}

// firstLease is the id of the first lease that a test does not number itself.
const firstLease = 0x1001

// play prepares a test.
func (f *File) play(t *testSpec) (*play, error) {
	p := &play{
		rs: f.rs, test: t, etcd: newEtcd(),
		receivers: make(map[string]*receiver), leases: make(map[string]*heldLease),
	}
	for _, name := range slices.Concat(f.spec.Only, t.Only) {
		p.only = append(p.only, name.Value)
	}
	var all []dispatcher.Sink
	for _, spec := range f.rs.set.Sinks() {
		r, err := newReceiver(spec)
		if err != nil {
			return nil, err
		}
		p.receivers[spec.Name] = r
		all = append(all, f.opts.Sink(spec))
	}
	p.follow(t.Sinks)
	for i, l := range t.Leases {
		id := cmp.Or(l.id, firstLease+int64(i))
		p.leases[l.name] = &heldLease{id: id, ttl: l.ttl}
		p.etcd.grant(id)
	}
	var err error
	p.sim, err = dispatcher.NewSimulator(dispatcher.SimulatorConfig{
		Sinks: all, Start: epoch, Attempt: p.attempt, Ended: p.ended, Story: p.story(f.opts),
	})
	return p, err
}

// story tells sinks of dead letters.
func (p *play) story(opts Options) func(*keyhook.DeadLetter, uint64, string) *keyhook.Delivery {
	if opts.Story == nil {
		return nil
	}
	return func(dl *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery {
		d, err := opts.Story(p.rs.source, dl, number, sink)
		if err != nil {
			p.broken(fmt.Errorf("a dead letter cannot be told of: %w", err))
		}
		return d
	}
}

func (p *play) attempt(_ time.Time, d *keyhook.Delivery) (time.Duration, error) {
	r := p.receivers[d.Sink]
	if r == nil {
		return 0, fmt.Errorf("there is no sink %q", d.Sink)
	}
	return r.answer()
}

func (p *play) ended(e dispatcher.Ending) {
	if !p.counts(e.Delivery.Rule) {
		return
	}
	at := e.At.Sub(epoch)
	switch e.Outcome {
	case keyhook.Delivered:
		p.window.arrivals = append(p.window.arrivals, &arrival{Delivery: e.Delivery, at: at, attempts: e.Attempts})
	case keyhook.Dead:
		p.window.deaths = append(p.window.deaths, &death{Ending: e, at: at})
	default:
	}
}

// counts reports whether the test is about a rule.
func (p *play) counts(rule string) bool { return p.only == nil || slices.Contains(p.only, rule) }

func (p *play) follow(all scripts) {
	for _, s := range all {
		p.receivers[s.sink.Value].follow(s)
	}
}

// run plays the test to its end, or to where it cannot go on.
func (p *play) run() {
	defer func() {
		for _, r := range p.receivers {
			if err := r.close(); err != nil {
				p.fail(p.test.Position, "", "%s", err)
			}
		}
	}()
	if err := p.seed(); err != nil {
		p.broken(err)
		return
	}
	steps := p.test.Steps
	for i, s := range steps {
		if s.At != nil {
			at := epoch.Add(s.At.Value.Std())
			if at.Before(p.sim.Now()) {
				p.broken(wrongAt(s.At.Position, "the step before ends at %s only", p.sim.Now().Sub(epoch)))
				return
			}
			if err := p.until(at); err != nil {
				p.broken(err)
				return
			}
		}
		if i > 0 {
			p.compare(steps[i-1])
		}
		p.window = window{}
		if len(steps) > 1 {
			p.step = i + 1
		}
		if err := p.do(s); err != nil {
			p.broken(err)
			return
		}
	}
	p.compare(steps[len(steps)-1])
}

// compare holds what happened in a step against what is expected of it.
func (p *play) compare(s *stepSpec) {
	if p.onlooker != nil {
		p.onlooker(p.window)
		return
	}
	p.hold(s)
}

// placed is an error with its place.
type placed struct {
	at  strictyaml.Position
	err error
}

func (e *placed) Error() string { return e.err.Error() }
func (e *placed) Unwrap() error { return e.err }

func wrongAt(at strictyaml.Position, format string, args ...any) error {
	return &placed{at, fmt.Errorf(format, args...)}
}

// broken notes why the test cannot go on.
func (p *play) broken(err error) {
	at := p.test.Position
	var e *placed
	if errors.As(err, &e) {
		at = e.at
	}
	p.fail(at, "", "%s", err)
}

func (p *play) fail(at strictyaml.Position, detail, format string, args ...any) {
	p.failures = append(p.failures, Failure{Position: at, Step: p.step, Message: fmt.Sprintf(format, args...), Detail: detail})
}

// seed writes what etcd holds before the test begins.
func (p *play) seed() error {
	var fresh int64 // seeds that take the next revision
	for _, e := range p.test.Seed.all {
		if e.revision == 0 {
			fresh++
		}
	}
	if want := p.test.Revision; want != nil {
		if want.Value < 1+fresh {
			return wrongAt(want.Position, "the %d keys of the seed need more revisions", fresh)
		}
		p.etcd.revision = want.Value - fresh
	}
	for _, e := range p.test.Seed.all {
		kv := &keyhook.KeyValue{Value: e.value, Revision: e.revision, CreateRevision: e.createRevision, Version: max(1, e.version)}
		if e.revision == 0 {
			p.etcd.revision++
			kv.Revision = p.etcd.revision
		}
		kv.CreateRevision = cmp.Or(kv.CreateRevision, kv.Revision)
		if kv.CreateRevision > kv.Revision {
			return wrongAt(e.at, "no key of etcd has such revisions")
		}
		if e.lease != nil {
			kv.Lease = p.leases[e.lease.Value].id
		}
		if e.deleted {
			p.etcd.deleted[e.key] = kv
		} else {
			p.etcd.keys[e.key] = kv
		}
		if p.test.Revision == nil {
			p.etcd.revision = max(p.etcd.revision, kv.Revision)
		} else if kv.Revision > p.test.Revision.Value {
			return wrongAt(e.at, "a key of the seed is newer than the revision of the test")
		}
	}
	return nil
}

// do carries out a step, and waits for what follows from it.
func (p *play) do(s *stepSpec) error {
	p.follow(s.Sinks)
	if s.Revision != nil {
		if s.Revision.Value <= p.etcd.revision {
			return wrongAt(s.Revision.Position, "etcd is at revision %d already", p.etcd.revision)
		}
		p.etcd.revision = s.Revision.Value - 1
	}
	events, err := p.etcd.txn(p.operations(s), p.sim.Now())
	if err != nil {
		return &placed{s.Position, err}
	}
	if err := p.admit(events); err != nil {
		return err
	}
	for _, name := range s.Revoke {
		if err := p.revoke(p.leases[name.Value]); err != nil {
			return err
		}
	}
	for _, name := range s.Abandon {
		if l := p.leases[name.Value]; p.etcd.leases[l.id] {
			l.lapses = p.sim.Now().Add(l.ttl)
		}
	}
	if s.Wait != nil {
		return p.until(p.sim.Now().Add(s.Wait.Value.Std()))
	}
	return p.settle(s)
}

func (p *play) revoke(l *heldLease) error {
	l.lapses = time.Time{}
	return p.admit(p.etcd.revoke(l.id, p.sim.Now()))
}

// operations returns the transaction of a step, in the order of the file.
func (p *play) operations(s *stepSpec) []operation {
	var put, del, prefix []operation
	for _, e := range s.Put.all {
		o := operation{kind: opPut, key: e.key, value: e.value}
		switch {
		case e.lease != nil:
			o.lease = p.leases[e.lease.Value].id
		case s.Lease != nil:
			o.lease = p.leases[s.Lease.Value].id
		}
		put = append(put, o)
	}
	for _, key := range s.Delete.all {
		del = append(del, operation{kind: opDelete, key: key})
	}
	for _, key := range s.DeletePrefix.all {
		prefix = append(prefix, operation{kind: opDeletePrefix, key: key})
	}
	type written struct {
		at  strictyaml.Position
		ops []operation
	}
	parts := []written{{s.Put.Position, put}, {s.Delete.Position, del}, {s.DeletePrefix.Position, prefix}}
	slices.SortStableFunc(parts, func(a, b written) int { return a.at.Compare(b.at) })
	return slices.Concat(parts[0].ops, parts[1].ops, parts[2].ops)
}

// admit evaluates the changes of a revision, as one batch, and hands on what
// they owe.
func (p *play) admit(events []*keyhook.Event) error {
	if len(p.rs.watch) > 0 {
		events = slices.DeleteFunc(slices.Clone(events), func(ev *keyhook.Event) bool {
			return !slices.ContainsFunc(p.rs.watch, func(r keyhook.Range) bool { return r.Contains(ev.Key) })
		})
	}
	p.sim.Admit(&dispatcher.Batch{Deliveries: p.evaluate(events)})
	if p.rs.tracer != nil {
		if _, err := p.rs.tracer.Trace(events); err != nil {
			return err
		}
	}
	return p.sim.Settle()
}

// evaluate returns what changes owe, in order.
func (p *play) evaluate(events []*keyhook.Event) []*keyhook.Delivery {
	var owed []*keyhook.Delivery
	for range p.rs.set.EvaluateBatch(rules.Source{Name: p.rs.source}, events, &p.result) {
		p.note()
		owed = append(owed, p.result.Deliveries...)
	}
	return owed
}

// note keeps which rules matched, and which failed.
func (p *play) note() {
	for _, m := range p.result.Matches {
		p.rs.matched[m.Rule]++
	}
	for _, e := range p.result.Errors {
		if p.counts(e.Rule) {
			p.window.errors = append(p.window.errors, evalError{e, string(e.Event.Key)})
		}
	}
}

// until lets time pass, and does all that is due until then.
func (p *play) until(at time.Time) error {
	for {
		l := p.nextLapse()
		if l == nil || l.lapses.After(at) {
			return p.sim.RunUntil(at)
		}
		if err := p.sim.RunUntil(l.lapses); err != nil {
			return err
		}
		if err := p.revoke(l); err != nil {
			return err
		}
	}
}

// settle lets time pass until there is nothing left to happen.
func (p *play) settle(s *stepSpec) error {
	limit := p.sim.Now().Add(longestWait)
	for {
		next, some := p.sim.Next()
		if l := p.nextLapse(); l != nil && (!some || l.lapses.Before(next)) {
			next, some = l.lapses, true
		}
		if !some {
			return nil
		}
		if next.After(limit) {
			return wrongAt(s.Position, "after %d days there is still something to come; say how long to wait, as in wait: 1h", longestWait/(24*time.Hour))
		}
		if err := p.until(next); err != nil {
			return err
		}
	}
}

// nextLapse returns the lease that lapses first, nil if none does.
func (p *play) nextLapse() *heldLease {
	var first *heldLease
	for _, l := range p.leases {
		if !l.lapses.IsZero() && (first == nil || l.lapses.Before(first.lapses) || l.lapses.Equal(first.lapses) && l.id < first.id) {
			first = l
		}
	}
	return first
}
