package config

import (
	"keyhook/internal/strictyaml"
	"keyhook/watch"
)

// startField is a start as it is written: a word or a revision. The zero value is
// the default.
type startField struct{ value watch.Start }

// DecodeYAML implements [strictyaml.Decoder].
func (s *startField) DecodeYAML(n *strictyaml.Node) {
	const hint = "write now, snapshot, earliest or a revision above 0"
	if k := n.Kind(); k != strictyaml.String && k != strictyaml.Number {
		n.Problemf(hint, "expected a start, found %s", k)
		return
	}
	v, err := watch.ParseStart(n.Text())
	if err != nil {
		n.Problemf(hint, "%s", err)
		return
	}
	s.value = v
}

// Shape implements [strictyaml.Shaped].
func (*startField) Shape() []any {
	return []any{strictyaml.Word("now"), strictyaml.Word("snapshot"), strictyaml.Word("earliest"), int64(0)}
}
