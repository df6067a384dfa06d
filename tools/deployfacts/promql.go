package main

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
)

// metricName is the label that a metric's name is to Prometheus.
const metricName = "__name__"

// selection is what one expression asks of the metrics.
type selection struct {
	Expr    string   `json:"expr"`
	Metrics []metric `json:"metrics"`
	// Labels are those by which the expression groups, joins or rewrites.
	Labels []string `json:"labels"`
}

type metric struct {
	Name     string    `json:"name"`
	Matchers []matcher `json:"matchers"`
}

type matcher struct {
	Label string `json:"label"`
	Op    string `json:"op"`
	Value string `json:"value"`
}

func promql(expressions []string) ([]selection, error) {
	p := parser.NewParser(parser.Options{})
	selections := make([]selection, 0, len(expressions))
	for _, source := range expressions {
		expr, err := p.ParseExpr(source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		s := selection{Expr: source}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			s.visit(node)
			return nil
		})
		slices.Sort(s.Labels)
		s.Labels = slices.Compact(s.Labels)
		selections = append(selections, s)
	}
	return selections, nil
}

func (s *selection) visit(node parser.Node) {
	switch n := node.(type) {
	case *parser.VectorSelector:
		m := metric{Name: n.Name}
		for _, l := range n.LabelMatchers {
			if l.Name == metricName {
				m.Name = l.Value
				continue
			}
			m.Matchers = append(m.Matchers, matcher{Label: l.Name, Op: l.Type.String(), Value: l.Value})
		}
		s.Metrics = append(s.Metrics, m)
	case *parser.AggregateExpr:
		s.Labels = append(s.Labels, n.Grouping...)
	case *parser.BinaryExpr:
		if n.VectorMatching != nil {
			s.Labels = append(s.Labels, n.VectorMatching.MatchingLabels...)
			s.Labels = append(s.Labels, n.VectorMatching.Include...)
		}
	}
}
