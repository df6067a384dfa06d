package build_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"keyhook/internal/schema/build"
	"keyhook/internal/strictyaml"
)

const here = "keyhook/internal/schema/build_test"

// What the tests below decode into; the comments are read from this file's copy.
type (
	documented struct {
		At strictyaml.Position `yaml:",position" oneof:"a|b"`
		// The first.
		A string `yaml:"a"`
		B struct {
			// Inside.
			C strictyaml.OneOrList[strictyaml.At[int]] `yaml:"c,required" min:"1"`
		} `yaml:"b"` // The second, which
		ignored int
	}
	undocumented struct {
		A string `yaml:"a"`
	}
	opaque struct {
		// Decodes itself.
		A selfish `yaml:"a"`
	}
	unknown struct {
		// No file has such.
		A chan int `yaml:"a"`
	}
	misnamed struct {
		At strictyaml.Position `yaml:",position" oneof:"a|d"`
		// The only one.
		A string `yaml:"a"`
	}
	selfish struct{}
)

func (*selfish) DecodeYAML(*strictyaml.Node) {}

// of reads T, with the comments of this file.
func of[T any](t *testing.T) (*build.Node, error) {
	t.Helper()
	dir := t.TempDir()
	source, err := os.ReadFile("build_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "types.go"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	docs, err := build.ReadDocs(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	return build.Of(reflect.TypeFor[T](), docs)
}

func TestATypeBecomesATable(t *testing.T) {
	n, err := of[documented](t)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimLeft(`
## T

Exactly one of 'a', 'b'.

| Field | Type | Default | Meaning |
|---|---|---|---|
| 'a' | string | none | The first. |
| 'b' | map |  | The second, which |

### 'b'

| Field | Type | Default | Meaning |
|---|---|---|---|
| 'c' | integer, or a list of integers, from 1 | required | Inside. |

`, "\n")
	if got := build.Markdown("T", 2, n); got != strings.ReplaceAll(want, "'", "`") {
		t.Errorf("got\n%s", got)
	}
	_ = documented{}.ignored
}

// What cannot be described is an error that says where, and what to do.
func TestWhatCannotBeDescribed(t *testing.T) {
	for want, read := range map[string]func(*testing.T) (*build.Node, error){
		"undocumented.A has no comment that says what a means": of[undocumented],
		"selfish decodes itself: give it a method Shape":       of[opaque],
		"nothing is known of the type chan int":                of[unknown],
		"misnamed: there is no field d":                        of[misnamed],
	} {
		if _, err := read(t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
