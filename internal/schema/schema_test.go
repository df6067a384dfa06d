package schema_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"keyhook/internal/schema"
	"keyhook/internal/schema/build"
)

const root = "../.."

func TestWhatIsGeneratedIsUpToDate(t *testing.T) {
	files, err := build.Files(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say: run make generate", name)
		}
	}
}

// compile compiles a schema with a library that did not write it.
func compile(t *testing.T, source string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("file:///schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("file:///schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// accepts reports whether a schema accepts the text of a YAML file.
func accepts(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var doc any
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return err
	}
	return s.Validate(doc)
}

// example is a file that keyhook is shown to take, or a part of a guide.
type example struct {
	where, text string
}

var block = regexp.MustCompile("(?ms)^```yaml\n# (\\S+\\.yaml)\n(.*?)^```$")

// examples returns every keyhook.yaml and every rule file of the repository.
func examples(t *testing.T) (configs, ruleFiles, tests []example) {
	t.Helper()
	add := func(name, where, text string) {
		switch e := (example{where, text}); {
		case strings.HasSuffix(name, "_test.yaml"):
			tests = append(tests, e)
		case filepath.Base(name) == "keyhook.yaml":
			configs = append(configs, e)
		case filepath.Base(filepath.Dir(name)) == "rules":
			ruleFiles = append(ruleFiles, e)
		}
	}
	for _, dir := range []string{"README.md", "docs", "examples", "deploy"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			switch filepath.Ext(path) {
			case ".yaml":
				if filepath.Base(filepath.Dir(path)) != "kubernetes" {
					add(path, path, string(text))
				}
			case ".md":
				for _, b := range block.FindAllStringSubmatch(string(text), -1) {
					add(b[1], path+" "+b[1], b[2])
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(configs) < 4 || len(ruleFiles) < 5 || len(tests) < 15 {
		t.Fatalf("only %d configurations, %d rule files and %d tests are found", len(configs), len(ruleFiles), len(tests))
	}
	return configs, ruleFiles, tests
}

func TestEveryExampleFitsItsSchema(t *testing.T) {
	config, rules, test := compile(t, schema.Config()), compile(t, schema.Rules()), compile(t, schema.Test())
	configs, ruleFiles, tests := examples(t)
	for _, e := range configs {
		if err := accepts(t, config, e.text); err != nil {
			t.Errorf("%s: %v", e.where, err)
		}
	}
	for _, e := range tests {
		if err := accepts(t, test, e.text); err != nil {
			t.Errorf("%s: %v", e.where, err)
		}
	}
	for _, e := range ruleFiles {
		if err := accepts(t, rules, e.text); err != nil {
			t.Errorf("%s: %v", e.where, err)
		}
	}
}
