package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestABreakerAndABoundOfASink(t *testing.T) {
	for text, want := range map[string]struct {
		breaker BreakerSpec
		maxOwed int
	}{
		"":                               {},
		"breaker: off":                   {breaker: BreakerSpec{Off: true}},
		"breaker: false":                 {breaker: BreakerSpec{Off: true}},
		"breaker: {}":                    {},
		"breaker: {failures: 7}":         {breaker: BreakerSpec{Failures: 7}},
		"breaker: {open: 2m, probes: 3}": {breaker: BreakerSpec{Open: 2 * time.Minute, Probes: 3}},
		"max_owed: 0":                    {},
		"max_owed: 100000":               {maxOwed: 100_000},
	} {
		set, problems := loadSink(text)
		if problems != "" {
			t.Errorf("%s: %s", text, problems)
			continue
		}
		if got := set.Sinks()[0]; got.Breaker != want.breaker || got.MaxOwed != want.maxOwed {
			t.Errorf("%s: %+v, %d", text, got.Breaker, got.MaxOwed)
		}
	}
	for text, want := range map[string]string{
		"breaker: on":                         `a.yaml:4:14: expected off or a map, found "on"`,
		"breaker: true":                       `a.yaml:4:14: expected off or a map, found "true"`,
		"breaker: [off]":                      `a.yaml:4:14: expected off or a map`,
		"breaker: {opne: 10s}":                `a.yaml:4:15: unknown field "opne"`,
		"breaker: {failures: 0}":              `a.yaml:4:25: failures must be between 1 and 10000`,
		"breaker: {open: 0s}":                 `a.yaml:4:21: open must be above 0`,
		"breaker: {open: 2d}":                 `a.yaml:4:21: open must be above 0 and at most 24h`,
		"breaker: {probes: 101}":              `a.yaml:4:23: probes must be between 1 and 100`,
		"max_owed: -1":                        `a.yaml:4:15: max_owed must not be negative`,
		"max_owed: many":                      `a.yaml:4:15: expected a number`,
		"breaker: {failures: 1}\n    rate: 0": `a.yaml:5:11`,
	} {
		if _, problems := loadSink(text); !strings.Contains(problems, want) {
			t.Errorf("%s: %s\nwant %s", text, problems, want)
		}
	}
}

func loadSink(text string) (*Set, string) {
	data := fmt.Sprintf("sinks:\n  - name: a\n    webhook: {url: 'http://127.0.0.1/'}\n    %s\nrules: [{name: r, keys: /a, send: {sink: a}}]\n", text)
	set, err := Load([]File{{Path: "a.yaml", Data: []byte(data)}}, Options{})
	if err != nil {
		return nil, err.Error()
	}
	return set, ""
}
