package strictyaml_test

import (
	"strings"
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
		return ps.Report()
	})
}

// TestSnippetsHoldNoSecret, wherever in the line it stands, and whatever is wrong
// with it.
func TestSnippetsHoldNoSecret(t *testing.T) {
	const secret = "hunter2/x:y"
	for _, text := range []string{
		"key: SECRET\nnme: x",
		"{name: x, key: SECRET, cuont: 1}",
		`{name: x, key: "SECRET", cuont: 1}`,
		`{"name":"x","key":"SECRET","cuont":1}`,
		"{name: x, headers: {Authorization: SECRET, X: 3}}",
		"name: x\nky: SECRET",
		"name: x\ncount: SECRET",
		"name: x\non: {a: SECRET}",
		"name: x\nkey: |\n  SECRET\n  SECRET\nnope: 1",
		"name: x\nkey: [SECRET]",
		"name: x # SECRET\nnope: 1 # SECRET",
		"name: x\nkey: SECRET: y\n",
		"name: x\n  key: SECRET",
		"name: x\nkey: 'SECRET\n",
		"name: {env: NOPE}\nkey: {env: A_NAME, fil: SECRET}",
		"name: x\nwait: 3\nkey: &a SECRET\nheaders: {a: *a, b: 1}",
	} {
		var f file
		text = strings.ReplaceAll(text, "SECRET", secret)
		ps := strictyaml.Decode("a.yaml", []byte(text), &f)
		if len(ps) == 0 {
			t.Errorf("nothing is wrong with\n%s", text)
		}
		for _, p := range ps {
			if strings.Contains(p.Snippet, "hunter") || strings.Contains(p.Snippet, "x:y") {
				t.Errorf("%s\nof\n%s", p.Report(), text)
			}
		}
	}
}

func TestAControlCharacterHasAPlace(t *testing.T) {
	var f file
	ps := strictyaml.Decode("a.yaml", []byte("\ufeffname: x\r\ntags: [a\tb, é\x00]\n"), &f)
	if want := "a.yaml:2:14: not YAML: a control character\n    remove it"; len(ps) != 1 || !strings.HasPrefix(ps.Error(), want) {
		t.Errorf("got\n%v\nwant\n%s", ps, want)
	}
}
