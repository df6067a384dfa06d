package rules

import (
	"bytes"
	"fmt"
	"strings"

	"keyhook"
)

// pattern is a parsed key pattern. It matches bytes, not characters.
//
// It is a literal followed by captures, each with the literal behind it:
//
//	/service/{scope}-x/leader  =  "/service/" {scope, "-x", "/leader"}
type pattern struct {
	source   string
	literal  string // what every match begins with
	captures []capture
	rest     bool // the last capture takes any bytes, also none
}

// capture is a part of a key that has a name. It ends with its segment, before
// suffix; next is what follows, up to the next capture.
type capture struct {
	name   string
	suffix string
	next   string
}

// span is a captured part of a key, [from, to).
type span struct{ from, to int }

// patternError is a mistake in a pattern, at an offset in bytes.
type patternError struct {
	at      int
	message string
	hint    string
}

// reservedNames cannot stand behind "params." in CEL.
var reservedNames = map[string]bool{"true": true, "false": true, "null": true, "in": true}

// maxCaptures bounds the captures of one pattern.
const maxCaptures = 32

// parsePattern reads a pattern: {x} takes one or more bytes but no "/", {x...}
// takes any bytes and comes last, {{ and }} are braces. A segment has one
// capture at most.
func parsePattern(source string) (*pattern, *patternError) {
	if source == "" {
		return nil, &patternError{message: "a pattern must not be empty", hint: "{key...} matches every key"}
	}
	var text strings.Builder // the literal that is being read
	p := &pattern{source: source}
	inSegment := false // whether the segment has had its capture
	flush := func() {
		p.setLiteral(text.String())
		text.Reset()
	}
	for i := 0; i < len(source); {
		switch c := source[i]; {
		case strings.HasPrefix(source[i:], "{{"), strings.HasPrefix(source[i:], "}}"):
			text.WriteByte(c)
			i += 2
		case c == '}':
			return nil, &patternError{at: i, message: `"}" without "{"`, hint: `write "}}" for a brace that belongs to the key`}
		case c == '{':
			name, rest, after, err := parseCapture(source, i)
			switch {
			case err != nil:
				return nil, err
			case rest && after < len(source):
				return nil, &patternError{at: after, message: fmt.Sprintf("nothing may follow {%s...}", name)}
			case inSegment:
				return nil, &patternError{at: i, message: "a segment can have one capture only", hint: `put a "/" between them, or capture the whole and take it apart in CEL`}
			case p.has(name):
				return nil, &patternError{at: i, message: fmt.Sprintf("capture %q is there twice", name), hint: "give them different names"}
			case len(p.captures) == maxCaptures:
				return nil, &patternError{at: i, message: fmt.Sprintf("a pattern can have %d captures at most", maxCaptures)}
			}
			flush()
			p.captures = append(p.captures, capture{name: name})
			p.rest, inSegment, i = rest, true, after
		default:
			if c == '/' {
				inSegment = false
			}
			text.WriteByte(c)
			i++
		}
	}
	flush()
	return p, nil
}

// parseCapture reads the capture that begins at source[at].
func parseCapture(source string, at int) (name string, rest bool, after int, err *patternError) {
	end := strings.IndexByte(source[at:], '}')
	if end < 0 {
		return "", false, 0, &patternError{at: at, message: `"{" without "}"`, hint: `write "{{" for a brace that belongs to the key`}
	}
	name = source[at+1 : at+end]
	name, rest = strings.CutSuffix(name, "...")
	switch {
	case !isIdentifier(name):
		return "", false, 0, &patternError{at: at, message: fmt.Sprintf("%q is not a name for a capture", name),
			hint: "a name has letters, digits and _, and does not begin with a digit"}
	case reservedNames[name]:
		return "", false, 0, &patternError{at: at, message: fmt.Sprintf("%q is a word of CEL and cannot name a capture", name)}
	}
	return name, rest, at + end + 1, nil
}

func isIdentifier(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func (p *pattern) has(name string) bool {
	for _, c := range p.captures {
		if c.name == name {
			return true
		}
	}
	return false
}

func (p *pattern) setLiteral(text string) {
	if len(p.captures) == 0 {
		p.literal = text
		return
	}
	c := &p.captures[len(p.captures)-1]
	if slash := strings.IndexByte(text, '/'); slash >= 0 {
		c.suffix, c.next = text[:slash], text[slash:]
	} else {
		c.suffix = text
	}
}

// match reports whether p matches the whole of key, and appends what its
// captures took to spans.
func (p *pattern) match(key []byte, spans []span) ([]span, bool) {
	if !hasPrefix(key, p.literal) {
		return spans, false
	}
	at := len(p.literal)
	for i := range p.captures {
		c := &p.captures[i]
		if p.rest && i == len(p.captures)-1 {
			return append(spans, span{at, len(key)}), true
		}
		end := len(key)
		if slash := bytes.IndexByte(key[at:], '/'); slash >= 0 {
			end = at + slash
		}
		to := end - len(c.suffix)
		if to <= at || string(key[to:end]) != c.suffix || !hasPrefix(key[end:], c.next) {
			return spans, false
		}
		spans = append(spans, span{at, to})
		at = end + len(c.next)
	}
	return spans, at == len(key)
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// keyRange returns the smallest range, a prefix or a single key, that holds all
// keys that p matches.
func (p *pattern) keyRange() keyhook.Range {
	if len(p.captures) == 0 {
		return keyhook.Single([]byte(p.literal))
	}
	return keyhook.Prefix([]byte(p.literal))
}

// names returns the names of the captures, in order.
func (p *pattern) names() []string {
	names := make([]string, len(p.captures))
	for i, c := range p.captures {
		names[i] = c.name
	}
	return names
}
