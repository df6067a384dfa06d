package strictyaml_test

import (
	"testing"

	"github.com/cockroachdb/datadriven"

	"keyhook/internal/strictyaml"
)

// file is a small configuration with one field of each kind.
type file struct {
	Position strictyaml.Position          `yaml:",position"`
	Name     string                       `yaml:"name,required"`
	On       bool                         `yaml:"on"`
	Count    int8                         `yaml:"count"`
	Size     uint16                       `yaml:"size"`
	Ratio    *float64                     `yaml:"ratio"`
	Wait     strictyaml.Duration          `yaml:"wait"`
	Rate     strictyaml.Rate              `yaml:"rate"`
	Key      strictyaml.Secret            `yaml:"key"`
	Headers  map[string]strictyaml.Secret `yaml:"headers"`
	Tags     []string                     `yaml:"tags"`
	Send     strictyaml.OneOrList[*entry] `yaml:"send"`
	Lists    [][]strictyaml.At[int]       `yaml:"lists"`
}

type entry struct {
	Base `yaml:",inline"`
	Sink string `yaml:"sink,required"`
}

type Base struct {
	Order string `yaml:"order"`
}

// TestProblems decodes each file of testdata/problems and compares what is
// wrong with it.
func TestProblems(t *testing.T) {
	datadriven.RunTest(t, "testdata/problems", func(t *testing.T, d *datadriven.TestData) string {
		var f file
		ps := strictyaml.Decode("a.yaml", []byte(d.Input), &f)
		if len(ps) == 0 {
			return "fine"
		}
		return ps.Error()
	})
}
