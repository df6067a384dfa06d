// Package redact keeps the secrets of a sink out of what others say: answers and
// errors that a sink quotes may repeat what it sent.
package redact

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// Mark stands where a secret was.
	Mark = "[redacted]"
	// MaxText bounds what is quoted, in bytes.
	MaxText = 300
	// shortest is the length from which a secret is looked for: shorter ones
	// would be found in every text.
	shortest = 4
)

// Redactor removes secrets from texts, in upper or lower case, and in the forms
// in which protocols and logs write them. It may be used by several goroutines
// at once.
type Redactor struct {
	forms   [256][]string // in lower case, by their first byte; the longest first
	longest int
}

// New returns a Redactor of secrets. Those of fewer than four bytes are left
// alone: they would be found in every text.
func New(secrets ...string) *Redactor {
	r := &Redactor{}
	for _, s := range secrets {
		if len(s) < shortest {
			continue
		}
		for _, form := range formsOf(s) {
			r.longest = max(r.longest, len(form))
			r.forms[form[0]] = append(r.forms[form[0]], form)
		}
	}
	for i, forms := range r.forms {
		// The longest first: what holds another secret goes as a whole.
		slices.SortFunc(forms, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
		})
		r.forms[i] = slices.Compact(forms)
	}
	return r
}

// formsOf returns the ways in which a text may write s, in lower case.
func formsOf(s string) []string {
	quoted := fmt.Sprintf("%q", s)
	escaped, _ := json.Marshal(s) // a string always marshals
	forms := []string{
		s, quoted[1 : len(quoted)-1], string(escaped[1 : len(escaped)-1]),
		url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s),
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		forms = append(forms, encoding.EncodeToString([]byte(s)))
		// Amid other data it looks different: what is left are the characters that
		// do not depend on its neighbours.
		for before := range 3 {
			whole := encoding.EncodeToString(append(make([]byte, before), s...))
			first, end := (8*before+5)/6, 8*(before+len(s))/6
			if end-first >= 8 {
				forms = append(forms, whole[first:end])
			}
		}
	}
	for i := range forms {
		forms[i] = lower(forms[i])
	}
	return forms
}

// lower is strings.ToLower for ASCII: it keeps every byte in its place.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// replace returns text with every secret blotted out.
func (r *Redactor) replace(text string) string {
	var b strings.Builder
	folded, kept := lower(text), 0
	for i := 0; i < len(folded); {
		rest := folded[i:]
		at := slices.IndexFunc(r.forms[rest[0]], func(form string) bool { return strings.HasPrefix(rest, form) })
		if at < 0 {
			i++
			continue
		}
		b.WriteString(text[kept:i])
		b.WriteString(Mark)
		i += len(r.forms[rest[0]][at])
		kept = i
	}
	if kept == 0 {
		return text
	}
	b.WriteString(text[kept:])
	return b.String()
}

// Clean returns text without secrets, on one line, shortened. Cut says that
// text is the beginning of something longer.
func (r *Redactor) Clean(text string, cut bool) string {
	if cut {
		// The end may be the beginning of a secret.
		text = text[:max(0, len(text)-r.longest)]
	}
	text = r.replace(text)
	var b strings.Builder
	space := false
	for _, c := range text {
		switch {
		case unicode.IsSpace(c) || unicode.IsControl(c):
			space = b.Len() > 0
			continue
		case !unicode.IsPrint(c):
			c = utf8.RuneError
		}
		if b.Len() >= MaxText {
			b.WriteString("…")
			return b.String()
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
	}
	if cut && b.Len() > 0 {
		b.WriteString("…")
	}
	return b.String()
}
