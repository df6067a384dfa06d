package ruletest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// update is a body that would make an expectation right.
type update struct {
	of   *document
	body []byte
}

// update returns what would make w right for a, nil if more than the body is
// wrong.
func (w *arrivalSpec) update(a *arrival, ds []difference) *update {
	if len(ds) != 1 || ds[0].field != "body" || w.Body == nil {
		return nil
	}
	return &update{of: w.Body, body: a.Message.Body}
}

// errFlow means that a body cannot be replaced by itself.
var errFlow = errors.New("body must begin a line to be updated: write the expectation without braces")

// Update returns the file with the bodies that arrived in place of those that
// were expected, wherever nothing else was wrong, and how many they are. All else
// stays as it is written, comments included.
func (f *File) Update(res FileResult) ([]byte, int, error) {
	var all []*update
	for _, t := range res.Tests {
		for _, failure := range t.Failures {
			if u := failure.update; u != nil && !slices.ContainsFunc(all, func(o *update) bool { return o.of == u.of }) {
				all = append(all, u)
			}
		}
	}
	if len(all) == 0 {
		return f.data, 0, nil
	}
	// From the end, so that the lines before keep their numbers.
	slices.SortFunc(all, func(a, b *update) int { return cmp.Compare(b.of.Position.Line, a.of.Position.Line) })
	newline := "\n"
	if bytes.Contains(f.data, []byte("\r\n")) {
		newline = "\r\n"
	}
	lines := strings.Split(strings.ReplaceAll(string(f.data), "\r\n", "\n"), "\n")
	for _, u := range all {
		var err error
		if lines, err = u.apply(lines); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", u.of.Position, err)
		}
	}
	return []byte(strings.Join(lines, newline)), len(all), nil
}

const bodyField = "body:"

// apply replaces one body.
func (u *update) apply(lines []string) ([]string, error) {
	at := u.of.Position.Line - 1
	// A value may begin below its name.
	for at > 0 && !beginsBody(lines[at]) && (strings.TrimSpace(lines[at-1]) == "" || comment(lines[at-1]) || beginsBody(lines[at-1])) {
		at--
	}
	if !beginsBody(lines[at]) {
		return nil, errFlow
	}
	column := strings.Index(lines[at], bodyField)
	end := at + 1
	for end < len(lines) && (strings.TrimSpace(lines[end]) == "" || indentOf(lines[end]) > column) {
		end++
	}
	// What follows the value belongs to what comes next.
	for end > at+1 && (strings.TrimSpace(lines[end-1]) == "" || comment(lines[end-1]) && end-1 > at+1 && !u.quoted(lines, at)) {
		end--
	}
	text := lines[at][:column] + bodyField + " " + u.render(column)
	return slices.Concat(lines[:at], strings.Split(text, "\n"), lines[end:]), nil
}

// quoted reports whether the body is a block of text, in which nothing is a
// comment.
func (u *update) quoted(lines []string, at int) bool {
	rest := strings.TrimSpace(lines[at][strings.Index(lines[at], bodyField)+len(bodyField):])
	return strings.HasPrefix(rest, "|") || strings.HasPrefix(rest, ">")
}

// beginsBody reports whether a line begins with the name of a body, behind
// nothing but the dash of a list.
func beginsBody(line string) bool {
	return strings.HasPrefix(strings.TrimLeft(line, " -"), bodyField)
}

func comment(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "#") }

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

const maxLine = 100 // characters of a document that is written on one line

// render writes the body as YAML behind its name, whose column is given.
func (u *update) render(column int) string {
	margin := strings.Repeat(" ", column+2)
	if v, err := parse(u.body); err == nil {
		switch v.(type) {
		case map[string]any, []any:
			if utf8.RuneCount(u.body)+column < maxLine && !bytes.Contains(u.body, []byte("\n")) {
				return string(compact(u.body))
			}
			return strings.ReplaceAll(pretty(v), "\n", "\n"+margin)
		}
	}
	text := string(u.body)
	if strings.Contains(text, "\n") && blockable(text) {
		return block(text, margin)
	}
	return string(appendText(nil, text))
}

// compact writes a document with a space behind ":" and ",", so that YAML takes
// it for what it is.
func compact(body []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, body); err != nil {
		return body
	}
	out := make([]byte, 0, b.Len()+16)
	inText := false
	for i := 0; i < b.Len(); i++ {
		c := b.Bytes()[i]
		out = append(out, c)
		switch {
		case c == '\\' && inText:
			i++
			out = append(out, b.Bytes()[i])
		case c == '"':
			inText = !inText
		case (c == ':' || c == ',') && !inText:
			out = append(out, ' ')
		}
	}
	return out
}

// blockable reports whether text can stand in a block as it is.
func blockable(text string) bool {
	if strings.HasPrefix(text, " ") || strings.HasPrefix(text, "\n") || strings.Contains(text, "\t") {
		return false
	}
	for _, r := range text {
		if r != '\n' && (r < ' ' || r == 0x7f || r == 0x85 || r == 0xfeff || r == 0x2028 || r == 0x2029) {
			return false
		}
	}
	return true
}

func block(text, margin string) string {
	head := "|-"
	if trimmed := strings.TrimRight(text, "\n"); len(trimmed) < len(text) {
		head = "|"
		if len(text)-len(trimmed) > 1 {
			head = "|+"
		}
		text = text[:len(text)-1]
	}
	var b strings.Builder
	b.WriteString(head)
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteByte('\n')
		if line != "" {
			b.WriteString(margin + line)
		}
	}
	return b.String()
}
