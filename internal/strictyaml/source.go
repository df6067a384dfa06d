package strictyaml

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Source is a file that was decoded, for quoting it in problems. It shows what
// was understood and is no secret: the names of fields, and values that were
// decoded into anything but a [Secret]. Everything else is "…".
type Source struct {
	path  string
	lines []string
	shown map[int][]columns // by line, from 1
}

// columns are those from one, counting from 1 in characters, up to another.
type columns struct{ from, to int }

// toEnd is behind every column.
const toEnd = 1 << 30

// show makes the text of a scalar visible.
func (d *document) show(raw *yaml.Node) {
	s := d.source
	if s == nil || raw.Line < 1 || raw.Line > len(s.lines) || raw.Kind != yaml.ScalarNode {
		return
	}
	add := func(line int, c columns) { s.shown[line] = append(s.shown[line], c) }
	if raw.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		indent := 0
		for line := raw.Line + 1; line <= len(s.lines); line++ {
			text := s.lines[line-1]
			own := len(text) - len(strings.TrimLeft(text, " "))
			switch {
			case strings.TrimSpace(text) == "":
				continue
			case indent == 0:
				indent = own
			}
			if own < indent || indent == 0 {
				break
			}
			add(line, columns{1, toEnd})
		}
		return
	}
	rest := []rune(s.lines[raw.Line-1])
	rest = rest[min(raw.Column-1, len(rest)):]
	n := utf8.RuneCountInString(raw.Value)
	if len(rest) > 0 && (rest[0] == '"' || rest[0] == '\'') {
		n = quotedLength(rest)
	} else if !strings.HasPrefix(string(rest), raw.Value) { // an anchor, a tag, several lines
		return
	}
	add(raw.Line, columns{raw.Column, raw.Column + n})
}

// showSpots makes the lines between the first and the last of spots visible, which
// are those of a scalar.
func (d *document) showSpots(spots []spot) {
	s := d.source
	if s == nil {
		return
	}
	for i, at := range spots {
		if i > 0 && spots[i-1].line == at.line {
			continue
		}
		last := at
		for _, next := range spots[i:] {
			if next.line != at.line {
				break
			}
			last = next
		}
		s.shown[at.line] = append(s.shown[at.line], columns{at.column, last.column + 1})
	}
}

// quotedLength returns how many characters a quoted scalar takes that begins
// text, up to the end of the line at most.
func quotedLength(text []rune) int {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case quote == '"' && text[i] == '\\':
			i++
		case text[i] != quote:
		case quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return len(text)
}

var fieldName = regexp.MustCompile(`^( *(?:- +)*)([A-Za-z_]+)(?:: | *$|:$)`)

// showNames makes names visible in a file that could not be parsed.
func (s *Source) showNames() {
	for i, line := range s.lines {
		if m := fieldName.FindStringSubmatch(line); m != nil {
			s.shown[i+1] = append(s.shown[i+1], columns{len(m[1]) + 1, len(m[1]) + len(m[2]) + 1})
		}
	}
}

// Quote puts the lines that ps are about into their snippets, for those that are
// about this file and have none.
func (s *Source) Quote(ps []Problem) {
	for i, p := range ps {
		if p.Path == s.path && p.Snippet == "" {
			ps[i].Snippet = s.snippet(p.Line, p.Column)
		}
	}
}

// snippetWidth is how many characters of a line are quoted.
const snippetWidth = 100

// snippet returns a line with a mark below the place; "" if there is no such
// line, or nothing of it can be shown.
func (s *Source) snippet(line, column int) string {
	if line < 1 || line > len(s.lines) || column < 1 {
		return ""
	}
	text, at := s.visible(line, column)
	if strings.Trim(string(text), " …") == "" {
		return ""
	}
	length := 1
	for at+length < len(text) && isWord(text[at]) && isWord(text[at+length]) {
		length++
	}
	// The part around the mark.
	from := max(0, min(at-snippetWidth/2, len(text)-snippetWidth))
	cut := text[from:min(len(text), from+snippetWidth)]
	before := ""
	if from > 0 {
		before = "…"
	}
	number := fmt.Sprintf("%5d", line)
	return fmt.Sprintf("%s | %s%s\n%s | %s%s", number, before, strings.TrimRight(string(cut), " "), strings.Repeat(" ", len(number)),
		strings.Repeat(" ", utf8.RuneCountInString(before)+at-from), strings.Repeat("^", max(1, min(length, len(cut)-(at-from)))))
}

func isWord(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// visible returns what of a line may be shown, and where a column of the line is
// in it.
func (s *Source) visible(line, column int) (text []rune, at int) {
	spans := slices.Clone(s.shown[line])
	slices.SortFunc(spans, func(a, b columns) int { return cmp.Compare(a.from, b.from) })
	runes := []rune(s.lines[line-1])
	shown := make([]bool, len(runes))
	for _, c := range spans {
		for i := c.from - 1; i < min(c.to-1, len(runes)); i++ {
			shown[i] = true
		}
	}
	at = -1
	for i := 0; i < len(runes); {
		end := i + 1
		hidden := false
		if !shown[i] && runes[i] != ' ' {
			for end < len(runes) && !shown[end] && runes[end] != ' ' {
				end++
			}
			hidden = strings.Trim(string(runes[i:end]), "[]{},:-|>+'\"") != ""
		}
		if at < 0 && column-1 < end {
			at = len(text)
			if !hidden {
				at += column - 1 - i
			}
		}
		if hidden {
			text = append(text, '…')
		} else {
			text = append(text, runes[i:end]...)
		}
		i = end
	}
	if at < 0 {
		at = len(text)
	}
	for i, r := range text {
		if !unicode.IsPrint(r) {
			text[i] = ' '
		}
	}
	return text, at
}
