package ruletest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"keyhook/internal/strictyaml"
)

// hold compares all that is expected of a step with what happened in it.
func (p *play) hold(s *stepSpec) {
	if s.Expect != nil {
		p.arrivals(s.Expect.all)
		p.unexpected(s)
	}
	if s.ExpectNone != nil {
		p.absences(s)
	}
	p.deaths(s)
	p.errors(s)
	p.owed(s)
}

// arrivals pairs what is expected with what arrived: first what agrees in all
// that is said, then what is nearest.
func (p *play) arrivals(want []*arrivalSpec) {
	found := make([]*arrival, len(want))
	for i, w := range want {
		for _, a := range p.window.arrivals {
			if !a.taken && len(w.differences(a)) == 0 {
				found[i], a.taken = a, true
				break
			}
		}
	}
	p.inOrder(want, found)
	for i, w := range want {
		if found[i] == nil {
			p.missing(w)
		}
	}
}

// inOrder holds the expectations of one chain to the order of their arrivals.
func (p *play) inOrder(want []*arrivalSpec, found []*arrival) {
	type chain struct{ rule, send, key string }
	last := map[chain]*arrival{}
	for i, a := range found {
		if a == nil {
			continue
		}
		c := chain{a.Rule, a.Send, string(a.ChainKey())}
		if before := last[c]; before != nil && before.Ordinal > a.Ordinal {
			p.fail(want[i].Position, "", "%s arrived in another order", a.describe())
		}
		last[c] = a
	}
}

// missing reports an expectation that nothing has met.
func (p *play) missing(w *arrivalSpec) {
	var nearest *arrival
	var differences []difference
	for _, a := range p.window.arrivals {
		if a.taken || !w.concerns(a) {
			continue
		}
		if d := w.differences(a); nearest == nil || len(d) < len(differences) {
			nearest, differences = a, d
		}
	}
	if nearest == nil {
		p.fail(w.Position, p.arrived(), "did not arrive: %s", w.describe())
		return
	}
	nearest.taken = true
	detail := make([]string, len(differences))
	for i, d := range differences {
		detail[i] = d.String()
	}
	p.fail(w.Position, strings.Join(detail, "\n"), "%s is not as expected", nearest.describe())
	p.failures[len(p.failures)-1].update = w.update(nearest, differences)
}

// arrived says what did arrive and was not expected, for want of what was.
func (p *play) arrived() string {
	var lines []string
	for _, a := range p.window.arrivals {
		if !a.taken {
			lines = append(lines, "arrived: "+a.describe())
		}
	}
	for _, d := range p.window.deaths {
		lines = append(lines, "dead letter: "+d.describe())
	}
	for _, e := range p.window.errors {
		lines = append(lines, fmt.Sprintf("the condition of %s failed for %s: %s", e.Rule, e.key, e.Err))
	}
	if len(lines) == 0 {
		return "nothing else arrived"
	}
	return strings.Join(lines, "\n")
}

// unexpected reports what arrived beside what was expected.
func (p *play) unexpected(s *stepSpec) {
	for _, a := range p.window.arrivals {
		if !a.taken {
			p.fail(s.Expect.Position, a.content(), "not expected: %s", a.describe())
		}
	}
}

// absences reports what must not have arrived.
func (p *play) absences(s *stepSpec) {
	for _, a := range p.window.arrivals {
		if s.ExpectNone.all {
			p.fail(s.ExpectNone.Position, a.content(), "nothing should arrive, but this did: %s", a.describe())
			continue
		}
		for _, none := range s.ExpectNone.of {
			if is(none.Rule, a.Rule) && is(none.Send, a.Send) && is(none.Sink, a.Sink) && is(none.Key, string(a.Event.Key)) {
				p.fail(none.Position, a.content(), "should not arrive: %s", a.describe())
			}
		}
	}
}

// deaths pairs dead letters with what is expected. One that nobody expects is
// always a failure.
func (p *play) deaths(s *stepSpec) {
	for _, w := range s.ExpectDead {
		i := slices.IndexFunc(p.window.deaths, func(d *death) bool { return !d.taken && w.matches(d) })
		if i < 0 {
			p.fail(w.Position, p.buried(), "there is no such dead letter")
			continue
		}
		p.window.deaths[i].taken = true
	}
	for _, d := range p.window.deaths {
		if !d.taken {
			p.fail(s.Position, d.Error, "not expected: the dead letter %s", d.describe())
		}
	}
}

func (p *play) buried() string {
	var lines []string
	for _, d := range p.window.deaths {
		if !d.taken {
			lines = append(lines, "dead letter: "+d.describe()+": "+d.Error)
		}
	}
	if len(lines) == 0 {
		return "there is no other"
	}
	return strings.Join(lines, "\n")
}

// errors compares the rules whose conditions failed.
func (p *play) errors(s *stepSpec) {
	if s.ExpectErrors == nil {
		return
	}
	left := slices.Clone(p.window.errors)
	for _, name := range *s.ExpectErrors {
		before := len(left)
		left = slices.DeleteFunc(left, func(e evalError) bool { return e.Rule == name.Value })
		if len(left) == before {
			p.fail(name.Position, "", "the condition of %s did not fail", name.Value)
		}
	}
	for _, e := range left {
		p.fail(s.Position, e.Err.Error(), "the condition of %s failed for %s", e.Rule, e.key)
	}
}

// owed compares what sinks are still owed.
func (p *play) owed(s *stepSpec) {
	if len(s.ExpectOwed) == 0 {
		return
	}
	owed := map[string]int64{}
	for _, st := range p.sim.Status() {
		owed[st.Name] = st.Owed
	}
	for _, name := range slices.Sorted(maps.Keys(s.ExpectOwed)) {
		if want := s.ExpectOwed[name]; owed[name] != int64(want.Value) {
			p.fail(want.Position, "", "%s is owed %d deliveries, not %d", name, owed[name], want.Value)
		}
	}
}

// is reports whether got is what is wanted, if anything is.
func is(want *strictyaml.At[string], got string) bool { return want == nil || want.Value == got }

func (w *deathSpec) matches(d *death) bool {
	of := d.Delivery
	return is(w.Rule, of.Rule) && is(w.Send, of.Send) && is(w.Sink, of.Sink) && is(w.Key, string(of.Event.Key)) &&
		is(w.Reason, string(d.Reason)) && (w.Error == nil || strings.Contains(d.Error, w.Error.Value)) &&
		(w.Attempts == nil || w.Attempts.Value == d.Attempts) && (w.At == nil || w.At.Value.Std() == d.at)
}

// concerns reports whether a is about the same as w: the same rule, send, sink
// and key, as far as w says.
func (w *arrivalSpec) concerns(a *arrival) bool {
	return is(w.Rule, a.Rule) && is(w.Send, a.Send) && is(w.Sink, a.Sink) && is(w.Key, string(a.Event.Key))
}

// describe says what is expected, in a line.
func (w *arrivalSpec) describe() string {
	var parts []string
	for _, p := range []struct {
		name  string
		value *strictyaml.At[string]
	}{{"rule", w.Rule}, {"send", w.Send}, {"sink", w.Sink}, {"key", w.Key}} {
		if p.value != nil {
			parts = append(parts, p.name+" "+p.value.Value)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "a delivery")
}

// describe says which delivery it is, in a line.
func (a *arrival) describe() string {
	return fmt.Sprintf("%s → %s, %s of %s, at %s", a.Rule, a.Send, a.Event.Type, printable(a.Event.Key), short(a.at))
}

func (d *death) describe() string {
	of := d.Delivery
	return fmt.Sprintf("%s → %s, %s of %s, reason %s, attempts %d, at %s",
		of.Rule, of.Send, of.Event.Type, printable(of.Event.Key), d.Reason, d.Attempts, short(d.at))
}

// content shows a message.
func (a *arrival) content() string {
	var b strings.Builder
	if a.Message.Subject != "" {
		fmt.Fprintf(&b, "subject: %s\n", a.Message.Subject)
	}
	for _, h := range a.Message.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	b.WriteString(readable(a.Message.Body))
	return strings.TrimRight(b.String(), "\n")
}

// short writes a time as people do: "1h0m0s" is "1h".
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
