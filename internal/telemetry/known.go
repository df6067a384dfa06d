package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"keyhook"
)

// What is known from the configuration has its series from the start, at 0: a
// counter that appears with its first increment hides that one from rate() and
// increase(). Rarer outcomes begin their series when they occur.
var (
	usualAttempts = []keyhook.Outcome{keyhook.Delivered, keyhook.Retried, keyhook.Dead}
	usualEnds     = []keyhook.Outcome{keyhook.Delivered, keyhook.Dead}
)

// Rule is a rule, with the sinks that it sends to.
type Rule struct {
	Name  string
	Sinks []string
}

// SetSinks says which sinks there are. Those that are gone keep their series:
// they may owe something still.
func (m *Metrics) SetSinks(names []string) {
	m.rules.Lock()
	defer m.rules.Unlock()
	for _, sink := range names {
		for _, outcome := range usualAttempts {
			m.attemptCounter(attemptKey{sink, outcome})
		}
		m.durationOf(sink)
		m.expired.WithLabelValues(sink)
	}
}

// SetRules says which rules there are: their series begin at 0, and those of
// rules that are gone end. Deliveries that a removed rule still owes begin a
// series anew.
func (m *Metrics) SetRules(rules []Rule) {
	m.rules.Lock()
	defer m.rules.Unlock()
	now := make(map[string]bool, len(rules))
	for _, rule := range rules {
		name := rule.Name
		if !m.perRule {
			name = ""
		}
		now[name] = true
		m.perRuleCounter(&m.matched, m.matches, name)
		m.perRuleCounter(&m.failed, m.ruleErrors, name)
		for _, sink := range rule.Sinks {
			for _, outcome := range usualEnds {
				m.settledCounter(settledKey{name, sink, outcome})
			}
		}
	}
	if !m.perRule {
		now[""] = true
	}
	for rule := range m.known {
		if now[rule] {
			continue
		}
		m.matches.DeleteLabelValues(rule)
		m.ruleErrors.DeleteLabelValues(rule)
		m.deliveries.DeletePartialMatch(prometheus.Labels{"rule": rule})
	}
	m.matched.keep(func(rule string) bool { return now[rule] })
	m.failed.keep(func(rule string) bool { return now[rule] })
	m.settled.keep(func(k settledKey) bool { return now[k.rule] || !m.known[k.rule] })
	m.known = now
}

func (m *Metrics) perRuleCounter(c *children[string, prometheus.Counter], vec *prometheus.CounterVec, rule string) prometheus.Counter {
	if !m.perRule {
		rule = ""
	}
	child, ok := c.get(rule)
	if !ok {
		child = c.add(rule, vec.WithLabelValues(rule))
	}
	return child
}

func (m *Metrics) attemptCounter(key attemptKey) prometheus.Counter {
	c, ok := m.attempt.get(key)
	if !ok {
		c = m.attempt.add(key, m.attempts.WithLabelValues(key.sink, string(key.outcome)))
	}
	return c
}

func (m *Metrics) durationOf(sink string) prometheus.Observer {
	o, ok := m.duration.get(sink)
	if !ok {
		o = m.duration.add(sink, m.took.WithLabelValues(sink))
	}
	return o
}

func (m *Metrics) settledCounter(key settledKey) prometheus.Counter {
	c, ok := m.settled.get(key)
	if !ok {
		c = m.settled.add(key, m.deliveries.WithLabelValues(key.rule, key.sink, string(key.outcome)))
	}
	return c
}
