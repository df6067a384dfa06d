package strictyaml_test

import (
	"strings"
	"testing"

	"keyhook/internal/strictyaml"
)

// TestTextLocate marks a place in the code with a "^" and expects to find the
// mark at the place in the file that Locate gives.
func TestTextLocate(t *testing.T) {
	for name, source := range map[string]string{
		"plain":                 "a:\n  b: x + ^y\n",
		"plain, not ASCII":      "b: \"\"\nb2: 1\na:\n  b: é + ☃ + ^y\n",
		"single quotes":         "a:\n  b: '\"x\" + ^y'\n",
		"doubled single quotes": "a:\n  b: '''x'' + ^y'\n",
		"double quotes":         "a:\n  b: \"x + ^y\"\n",
		"literal":               "a:\n  b: |\n    x +\n      ^y\n",
		"literal, kept":         "a:\n  b: |+\n    x +\n      ^y\n\n",
		"literal, blank lines":  "a:\n  b: |\n\n\n    é +\n\n    ☃ ^y\n",
		"literal, indentation":  "a:\n  b: |2-\n     x +\n    ^y\n",
		"literal, at the end":   "a:\n  b: |\n    ^y",
		"windows line ends":     "a:\r\n  b: |\r\n    x +\r\n      ^y\r\n",
		"anchor":                "a:\n  b: &anchor   x + ^y\n",
		"tag":                   "a:\n  b: !!str 'x + ^y'\n",
		"anchor on a literal":   "a:\n  b: &x |\n    1 + ^y\n",
		"byte order mark":       "\ufeffa:\n  b: x + ^y\n",
		"in a list":             "a: {b: 'x + ^y', c: 3}\n",
		"folded":                "a:\n  b: >-\n    x +\n      é\n\n    * ^y\n    + z\n",
		"folded, kept":          "a:\n  b: >+2\n    x +\n\n    ^y\n\n",
		"anchor on folded":      "a:\n  b: &x >\n    x +\n    ^y\n",
		"plain, two lines":      "a:\n  b: x +\n    é + ^y\n",
		"plain, in a list":      "a: {b: x +\n  ^y, c: 3}\n",
		"two single quotes":     "a:\n  b: '''''^y'\n",
		"single, two lines":     "a:\n  b: 'x +\n    ''é'' + ^y'\n",
		"double, two lines":     "a:\n  b: \"x +\\\n    é + ^y\"\n",
		"escaped quotes":        "a:\n  b: \"\\\"x\\\" + ^y\"\n",
		"escaped white space":   "a:\n  b: \"x +\\t\\ \\u0020\\x20^y\"\n",
		"escaped lines":         "a:\n  b: \"\\u00e9 +\\U0001F600\\\\\\n\\x41 ^y\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			text := decodeText(t, source)
			line, column := place(text.Value)
			got, exact := text.Locate(line, column-1)
			if !exact {
				t.Fatalf("no exact place for line %d, column %d of %q", line, column, text.Value)
			}
			wantLine, wantColumn := place(strings.TrimPrefix(source, "\ufeff"))
			if got.Path != "f.yaml" || got.Line != wantLine || got.Column != wantColumn {
				t.Fatalf("got %s, want %d:%d", got, wantLine, wantColumn)
			}
		})
	}
}

func decodeText(t *testing.T, source string) strictyaml.Text {
	t.Helper()
	var f struct {
		A struct {
			B strictyaml.Text `yaml:"b"`
			C int             `yaml:"c"`
		} `yaml:"a"`
		B  string `yaml:"b"`
		B2 int    `yaml:"b2"`
	}
	if ps := strictyaml.Decode("f.yaml", []byte(source), &f); len(ps) > 0 {
		t.Fatal(ps)
	}
	return f.A.B
}

// place returns the line and column, both from 1, of the "^" in s.
func place(s string) (line, column int) {
	before, _, _ := strings.Cut(s, "^")
	line = 1 + strings.Count(before, "\n")
	return line, 1 + len([]rune(before[strings.LastIndex(before, "\n")+1:]))
}

// TestTextLocateTheEnd: an expression that ends too early is wrong behind its last
// character.
func TestTextLocateTheEnd(t *testing.T) {
	for name, source := range map[string]string{
		"folded":        "a:\n  b: >\n    x\n    +\n",
		"double quotes": "a:\n  b: \"\\x41\\n\n    +\"\n",
		"plain":         "a:\n  b: x\n    +\n",
	} {
		t.Run(name, func(t *testing.T) {
			text := decodeText(t, source)
			lines := strings.Split(text.Value, "\n")
			line, column := place(source[:strings.Index(source, "+")+1] + "^")
			if got, exact := text.Locate(len(lines), len([]rune(lines[len(lines)-1]))); !exact || got.Line != line || got.Column != column {
				t.Fatalf("got %s, want %d:%d", got, line, column)
			}
		})
	}
}
