package strictyaml_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"keyhook/internal/strictyaml"
)

var problemLine = regexp.MustCompile(`^(f\.yaml:[0-9]+:[0-9]+: |    )[^\n]+$`)

// FuzzDecode: every problem has a place within the file and one line, and so has
// every piece of text.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"name: x\nsend: {sink: s}\n", "name: |\n  a\n   b\n", "name: &a x\ntags: [*a]\n", "a: &a [x,x]\nb: &b [*a,*a]\ntags: [*b,*b]",
		"", "---\n---\n", "name: \"\\xff\"", "name: [", "? a\n: b", "\ufeffname: x", "name: x\r\non: true\r\n", "%YAML 1.1\n---\nname: x", "text: >\n a\n b\n", "text: 'a''b'",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var into struct {
			file `yaml:",inline"`
			Text strictyaml.Text `yaml:"text"`
		}
		env := strictyaml.Environment{
			LookupEnv: func(string) (string, bool) { return "", false },
			ReadFile:  func(string) ([]byte, error) { return nil, nil },
		}
		ps := env.Decode("f.yaml", data, &into)
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(data)), "\n")
		for _, p := range ps {
			if p.Line < 1 || p.Column < 1 || p.Line > len(lines)+1 || p.Message == "" {
				t.Fatalf("%+v is outside of %d lines", p, len(lines))
			}
		}
		if len(ps) == 0 {
			for line, text := range strings.Split(into.Text.Value, "\n") {
				for column := range utf8.RuneCountInString(text) {
					if at, _ := into.Text.Locate(line+1, column); into.Text.IsSet() && (at.Line < 1 || at.Line > len(lines) || at.Column < 1) {
						t.Fatalf("character %d:%d of the text is at %s", line+1, column, at)
					}
				}
			}
			return
		}
		for line := range strings.SplitSeq(ps.Error(), "\n") {
			if !problemLine.MatchString(line) {
				t.Fatalf("not a line of a problem: %q", line)
			}
		}
	})
}
