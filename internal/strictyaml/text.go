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

	// starts has, for each line of Value, the place of its first character;
	// empty where the file holds it in another form.
	starts []Position
	// doubled has the quotes that single-quoted text writes twice.
	doubled bool
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
	t.starts, t.doubled = n.doc.locate(n.raw)
}

// IsSet reports whether t was in the file.
func (t Text) IsSet() bool { return t.Position.Line > 0 || t.Value != "" }

// Locate returns the place in the file of a line (from 1) and a column (from 0,
// in characters) of the text. It reports false, and the place of the whole, if
// the file writes the text in another form: folded, or with escapes.
func (t Text) Locate(line, column int) (Position, bool) {
	if line < 1 || column < 0 || line > len(t.starts) {
		return t.Position, false
	}
	p := t.starts[line-1]
	p.Column += column
	if t.doubled {
		runes := []rune(t.Value)
		p.Column += strings.Count(string(runes[:min(column, len(runes))]), "'")
	}
	return p, true
}

// locate finds where the lines of a scalar stand in the file.
func (d *document) locate(raw *yaml.Node) (starts []Position, doubled bool) {
	if raw.Line < 1 || raw.Line > len(d.lines) {
		return nil, false
	}
	switch {
	case raw.Style&yaml.LiteralStyle != 0:
		return d.locateBlock(raw), false
	case raw.Style&yaml.FoldedStyle != 0:
		return nil, false
	default:
		return d.locateLine(raw)
	}
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

func (d *document) locateLine(raw *yaml.Node) (starts []Position, doubled bool) {
	if strings.Contains(raw.Value, "\n") {
		return nil, false
	}
	runes := []rune(d.lines[raw.Line-1])
	at := min(max(raw.Column-1, 0), len(runes))
	rest := string(runes[at:])
	for strings.HasPrefix(rest, "&") || strings.HasPrefix(rest, "!") { // an anchor, a tag
		word, after, ok := strings.Cut(rest, " ")
		if !ok {
			return nil, false
		}
		trimmed := strings.TrimLeft(after, " ")
		at += utf8.RuneCountInString(word) + 1 + len(after) - len(trimmed)
		rest = trimmed
	}
	place := Position{Path: d.path, Line: raw.Line, Column: at + 1}
	switch {
	case raw.Style&yaml.SingleQuotedStyle != 0:
		if !strings.HasPrefix(rest, "'"+strings.ReplaceAll(raw.Value, "'", "''")+"'") {
			return nil, false
		}
		doubled = true
		place.Column++
	case raw.Style&yaml.DoubleQuotedStyle != 0:
		if !strings.HasPrefix(rest, `"`+raw.Value+`"`) {
			return nil, false
		}
		place.Column++
	default:
		if !strings.HasPrefix(rest, raw.Value) {
			return nil, false
		}
	}
	return []Position{place}, doubled
}
