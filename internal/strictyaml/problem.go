package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Position is a place in a file. Line and Column count from 1, columns in
// characters; 0 means that only the file is known.
type Position struct {
	Path         string
	Line, Column int
}

// String returns "path:line:column".
func (p Position) String() string {
	if p.Line == 0 {
		return p.Path
	}
	return p.Path + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// Compare orders places by file, line and column.
func (p Position) Compare(o Position) int {
	return cmp.Or(strings.Compare(p.Path, o.Path), cmp.Compare(p.Line, o.Line), cmp.Compare(p.Column, o.Column))
}

// Problemf returns a problem at p, without a hint.
func (p Position) Problemf(format string, args ...any) Problem {
	return Problem{Path: p.Path, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...)}
}

// Problem is one thing that is wrong with a file, and what to do about it.
type Problem struct {
	Path         string
	Line, Column int
	Message      string
	Hint         string // may be empty
	Code         string // names the kind of problem, for programs; may be empty
	// Snippet quotes the place, in two lines: that of the file and one with a
	// mark. It may be empty, and holds no secret.
	Snippet string
}

// WithHint returns p with a hint.
func (p Problem) WithHint(hint string) Problem {
	p.Hint = hint
	return p
}

// Position returns the place of p.
func (p Problem) Position() Position {
	return Position{Path: p.Path, Line: p.Line, Column: p.Column}
}

// Error returns "path:line:column: message", and the hint on an indented line
// of its own.
func (p Problem) Error() string {
	s := p.Position().String() + ": " + oneLine(p.Message)
	if p.Hint != "" {
		s += "\n    " + oneLine(p.Hint)
	}
	return s
}

// Report returns what Error does, and the snippet below it.
func (p Problem) Report() string {
	if p.Snippet == "" {
		return p.Error()
	}
	return p.Error() + "\n" + p.Snippet
}

// Problems are all the problems of a set of files.
type Problems []Problem

// Add adds a problem at a place. The hint may be empty.
func (ps *Problems) Add(at Position, hint, format string, args ...any) {
	*ps = append(*ps, at.Problemf(format, args...).WithHint(hint))
}

// Error returns one entry for each problem, as [Problem.Error] has it.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Report returns one entry for each problem, as [Problem.Report] has it.
func (ps Problems) Report() string {
	entries := make([]string, len(ps))
	for i, p := range ps {
		entries[i] = p.Report()
	}
	return strings.Join(entries, "\n")
}

// Err returns ps in order as an error, nil if there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	ps.Sort()
	return ps
}

// Sort puts ps in the order of their places; problems at one place keep their
// order.
func (ps Problems) Sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int { return a.Position().Compare(b.Position()) })
}

// oneLine keeps text that comes from a file from breaking the format.
func oneLine(s string) string {
	clean := func(r rune) bool { return r == ' ' || unicode.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}
