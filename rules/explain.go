package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"keyhook/internal/strictyaml"
)

var (
	undefinedField = regexp.MustCompile(`^undefined field '([^']*)'`)
	undeclared     = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	noOverload     = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '\((.*)\)'$`)
	container      = regexp.MustCompile(` \(in container '[^']*'\)`)
	expecting      = regexp.MustCompile(` expecting \{.*\}`)
)

// problems turns the errors of the CEL compiler into problems with a place in
// the file and a hint.
func (c *compiler) problems(what string, k kind, source strictyaml.Text, issues *cel.Issues) strictyaml.Problems {
	var ps strictyaml.Problems
	for _, e := range issues.Errors() {
		if strings.Contains(e.Message, "!error!") {
			continue // what follows from another error
		}
		line, column, of := e.Location.Line(), e.Location.Column(), ""
		if m := undefinedField.FindStringSubmatch(e.Message); m != nil {
			column, of = fieldAt(source, line, column, m[1])
		}
		message, hint := c.explain(e.Message, k, of)
		at, exact := source.Locate(line, column)
		if !exact {
			message += snippet(source, line, column)
		}
		ps.Add(at, hint, "%s: %s", what, message)
	}
	if len(ps) == 0 {
		ps.Add(source.Position, "", "%s: %s", what, issues.Err())
	}
	return ps
}

// fieldAt returns the column of an undefined field, and the name before its dot.
// CEL has the place of the dot, or that of the macro around it.
func fieldAt(source strictyaml.Text, line, column int, field string) (at int, of string) {
	lines := strings.Split(source.Value, "\n")
	if line < 1 || line > len(lines) {
		return column, ""
	}
	runes := []rune(lines[line-1])
	from := min(max(column, 0), len(runes))
	m := regexp.MustCompile(`\.\s*\??\s*` + regexp.QuoteMeta(field) + `\b`).FindStringIndex(string(runes[from:]))
	if m == nil {
		return column, ""
	}
	rest := string(runes[from:])
	dot := from + len([]rune(rest[:m[0]]))
	at = from + len([]rune(rest[:m[1]])) - len([]rune(field))
	if m := lastName.FindStringSubmatch(string(runes[:dot])); m != nil {
		of = m[1]
	}
	return at, of
}

var lastName = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\s*$`)

// snippet quotes the line of an expression whose place in the file is not known.
func snippet(source strictyaml.Text, line, column int) string {
	lines := strings.Split(source.Value, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	return fmt.Sprintf(", at character %d of: %s", column+1, strings.TrimSpace(lines[line-1]))
}

// explain puts an error of the CEL compiler into words, and says what to do
// about it.
func (c *compiler) explain(message string, k kind, of string) (text, hint string) {
	message = container.ReplaceAllString(message, "")
	message = expecting.ReplaceAllString(message, "")
	if m := undefinedField.FindStringSubmatch(message); m != nil {
		return message, c.fieldHint(m[1], k, of)
	}
	if m := undeclared.FindStringSubmatch(message); m != nil {
		return message, c.nameHint(m[1], k)
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("%s does not work with (%s)", strings.Trim(m[1], "_@"), m[2]), "convert one side, or check the names"
	}
	for _, known := range []struct{ of, text, hint string }{
		{"Syntax error: mismatched input '<EOF>'", "Syntax error: the expression ends too early", ""},
		{"Syntax error: token recognition error at: '= '", "", "did you mean ==?"},
		{"invalid matches argument", "", fmt.Sprintf("the pattern is no regular expression of RE2, or has more than %d instructions", maxRegexProgram)},
		{"invalid duration argument", "", `write it as "1h30m" or "90s"`},
		{"invalid timestamp argument", "", `write it as "2026-01-02T15:04:05Z"`},
		{"expression code point size exceeds limit", fmt.Sprintf("the expression is longer than %d characters", maxExpressionSize), "divide it with vars, or into several rules"},
		{"comprehension exceeds nesting limit", "", fmt.Sprintf("macros such as exists and map can stand in each other %d deep", maxComprehensions)},
	} {
		if strings.HasPrefix(message, known.of) {
			if known.text != "" {
				message = known.text
			}
			return message, known.hint
		}
	}
	return message, ""
}

// nameHint says what to do about a name that is not known.
func (c *compiler) nameHint(name string, k kind) string {
	for _, v := range c.env.scope.vars {
		if v.name == name {
			return "variables are read as vars." + name
		}
	}
	if slices.Contains(c.env.scope.captures, name) {
		return "captures are read as params." + name
	}
	for _, f := range eventFieldsFor(k) {
		if f == name {
			return "it is a field of the event: event." + name
		}
	}
	if slices.Contains(c.known, name) {
		return "it is a function: " + name + "(...)"
	}
	if near := strictyaml.Nearest(name, c.known); near != "" {
		return `did you mean "` + near + `"?`
	}
	return "an expression sees event, params and vars"
}

func (c *compiler) fieldHint(name string, k kind, of string) string {
	var known []string
	switch of {
	case nameParams:
		known = c.env.scope.captures
		if len(known) == 0 {
			return "the keys of this rule have no captures"
		}
	case nameVars:
		for _, v := range c.env.scope.vars {
			known = append(known, v.name)
		}
		if len(known) == 0 {
			return "this rule has no vars"
		}
		if slices.Contains(known, name) {
			return "the variable itself has a mistake"
		}
	case "prev", "last":
		for _, f := range valueFields {
			known = append(known, f.name)
		}
	default:
		known = eventFieldsFor(k)
		if near := strictyaml.Nearest(name, known); near == "" {
			return "fields: " + strings.Join(known, ", ")
		}
	}
	return strictyaml.DidYouMean(name, known)
}

// eventFieldsFor returns the fields of the event that expressions of kind k may
// use.
func eventFieldsFor(k kind) []string {
	var names []string
	for _, f := range eventFields {
		if f.name != nameParams && (f.name != nameTime || k.mayUseTime()) {
			names = append(names, f.name)
		}
	}
	return names
}
