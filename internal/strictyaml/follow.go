package strictyaml

import (
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// spot is where a character stands in a file, both from 1.
type spot struct{ line, column int }

// follow finds each character of a scalar that the file writes in another form:
// folded, over several lines, or with escapes. White space is all that such forms
// add or take away, so that the other characters come in the same order; white
// space is where the character before it ends. The last spot is behind the text.
// It returns nothing where the scalar is not found.
func (d *document) follow(raw *yaml.Node) []spot {
	if raw.Line < 1 || raw.Line > len(d.lines) {
		return nil
	}
	r := d.reader(raw)
	value := []rune(raw.Value)
	spots := make([]spot, 0, len(value)+1)
	after := spot{line: raw.Line, column: raw.Column}
	for _, want := range value {
		if unicode.IsSpace(want) {
			spots = append(spots, after)
			continue
		}
		got, at, ok := r.next()
		if !ok || got != want {
			return nil
		}
		spots = append(spots, at)
		after = spot{line: at.line, column: r.column + 1}
	}
	return append(spots, after)
}

// scalarReader reads the characters of a scalar that are no white space.
type scalarReader struct {
	style  yaml.Style
	lines  []string // that follow
	text   []rune   // the line that is being read
	line   int      // its number, from 1
	column int      // of what comes next, from 0
}

// reader returns a reader of what raw is written as.
func (d *document) reader(raw *yaml.Node) *scalarReader {
	r := &scalarReader{style: raw.Style, line: raw.Line, lines: d.lines[raw.Line:]}
	if raw.Style&yaml.FoldedStyle == 0 { // what stands beside the ">" is no text
		r.text, r.column = []rune(d.lines[raw.Line-1]), d.textColumn(raw)
	}
	return r
}

// next returns the next character that is no white space, and where it stands.
func (r *scalarReader) next() (rune, spot, bool) {
	for {
		if r.column >= len(r.text) {
			if len(r.lines) == 0 {
				return 0, spot{}, false
			}
			r.text, r.lines, r.line, r.column = []rune(r.lines[0]), r.lines[1:], r.line+1, 0
			continue
		}
		at := spot{line: r.line, column: r.column + 1}
		c := r.text[r.column]
		r.column++
		switch {
		case r.style&yaml.DoubleQuotedStyle != 0 && c == '\\':
			c = r.escaped()
		case r.style&yaml.SingleQuotedStyle != 0 && c == '\'' && r.column < len(r.text) && r.text[r.column] == '\'':
			r.column++
		}
		if !unicode.IsSpace(c) {
			return c, at, true
		}
	}
}

// escapes are the characters that stand behind a backslash for others than
// themselves; white space is a space.
var escapes = map[rune]rune{
	'0': 0, 'a': '\a', 'b': '\b', 'e': 0x1b, 't': ' ', 'n': ' ', 'v': ' ', 'f': ' ', 'r': ' ', '\t': ' ', 'N': ' ', '_': ' ', 'L': ' ', 'P': ' ',
}

// escaped reads what follows a backslash.
func (r *scalarReader) escaped() rune {
	if r.column >= len(r.text) {
		return ' ' // the text goes on in the next line
	}
	c := r.text[r.column]
	r.column++
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits == 0 {
		if other, ok := escapes[c]; ok {
			return other
		}
		return c
	}
	end := min(r.column+digits, len(r.text))
	code, err := strconv.ParseUint(string(r.text[r.column:end]), 16, 31)
	if err != nil {
		return unicode.ReplacementChar
	}
	r.column = end
	return rune(code)
}

// textColumn returns, from 0, where in its first line the text of a plain or
// quoted scalar begins: behind anchor, tag and opening quote.
func (d *document) textColumn(raw *yaml.Node) int {
	runes := []rune(d.lines[raw.Line-1])
	at := min(max(raw.Column-1, 0), len(runes))
	for at < len(runes) && (runes[at] == '&' || runes[at] == '!') {
		for at < len(runes) && runes[at] != ' ' {
			at++
		}
		for at < len(runes) && runes[at] == ' ' {
			at++
		}
	}
	if raw.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		at++
	}
	return min(at, len(runes))
}

// index returns how many characters of text stand before a line (from 1) and a
// column (from 0) of it.
func index(text string, line, column int) (int, bool) {
	before := 0
	for ; line > 1; line-- {
		first, rest, ok := strings.Cut(text, "\n")
		if !ok {
			return 0, false
		}
		before += len([]rune(first)) + 1
		text = rest
	}
	first, _, _ := strings.Cut(text, "\n")
	if column > len([]rune(first)) {
		return 0, false
	}
	return before + column, true
}
