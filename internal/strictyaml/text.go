package strictyaml

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Text is a scalar that holds source code of another language, such as CEL. It
// remembers where it stands, so that a place in the code is a place in the file.
type Text struct {
	Value    string
	Position Position // of the scalar

	// spots has the place of each character of Value, and of its end. It is
	// empty where the file holds the text as it is: then starts has the place of
	// the first character of each line.
	spots  []spot
	starts []Position
}

// NewText returns text that stands in no file.
func NewText(value string) Text { return Text{Value: value} }

// DecodeYAML implements [Decoder].
func (t *Text) DecodeYAML(n *Node) {
	switch n.Kind() {
	case String, Bool, Number: // "true" and "1" are code as well
	default:
		n.Problemf(`write the expression as a string; put it in a block after "|" if it begins with a brace or a quote`,
			"expected an expression, found %s", n.describe())
		return
	}
	n.doc.show(n.at)
	t.Value, t.Position = n.Text(), n.Position()
	if t.starts = n.doc.locate(n.raw); t.starts == nil {
		t.spots = n.doc.follow(n.raw)
		n.doc.showSpots(t.spots)
	}
}

// IsSet reports whether t was in the file.
func (t Text) IsSet() bool { return t.Position.Line > 0 || t.Value != "" }

// Locate returns the place in the file of a line (from 1) and a column (from 0,
// in characters) of the text. It reports false, and the place of the whole, if
// there is no such place.
func (t Text) Locate(line, column int) (Position, bool) {
	if line < 1 || column < 0 {
		return t.Position, false
	}
	if i, ok := index(t.Value, line, column); ok && i < len(t.spots) {
		at := t.spots[i]
		return Position{Path: t.Position.Path, Line: at.line, Column: at.column}, true
	}
	if line > len(t.starts) {
		return t.Position, false
	}
	p := t.starts[line-1]
	p.Column += column
	return p, true
}

// locate finds where the lines of a scalar stand in the file, if they stand there
// as they are.
func (d *document) locate(raw *yaml.Node) []Position {
	if raw.Line < 1 || raw.Line > len(d.lines) {
		return nil
	}
	switch {
	case raw.Style&yaml.LiteralStyle != 0:
		return d.locateBlock(raw)
	case raw.Style&yaml.FoldedStyle != 0, strings.Contains(raw.Value, "\n"):
		return nil
	case raw.Style&yaml.SingleQuotedStyle != 0 && strings.Contains(raw.Value, "'"),
		raw.Style&yaml.DoubleQuotedStyle != 0 && strings.Contains(raw.Value, `\`):
		return nil
	}
	at := d.textColumn(raw)
	if rest := string([]rune(d.lines[raw.Line-1])[at:]); !strings.HasPrefix(rest, raw.Value) {
		return nil
	}
	return []Position{{Path: d.path, Line: raw.Line, Column: at + 1}}
}

func (d *document) locateBlock(raw *yaml.Node) []Position {
	lines := strings.Split(raw.Value, "\n")
	starts := make([]Position, len(lines))
	for i, text := range lines {
		at := raw.Line + i // the line behind the "|" is the first one
		if at >= len(d.lines) {
			return starts[:i]
		}
		source := d.lines[at]
		if text != "" && !strings.HasSuffix(source, text) {
			return nil
		}
		indent := utf8.RuneCountInString(source) - utf8.RuneCountInString(text)
		starts[i] = Position{Path: d.path, Line: at + 1, Column: indent + 1}
	}
	return starts
}
