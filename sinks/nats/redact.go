package nats

import (
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
	redacted = "[redacted]"
	// shortest is the length from which a secret is looked for: shorter ones
	// would be found in every text.
	shortest = 4
	// maxText bounds what an error quotes of others, in bytes.
	maxText = 300
)

// redactor removes the secrets of a configuration from texts of others.
type redactor struct{ replacer *strings.Replacer }

func newRedactor(c Config) *redactor {
	var forms []string
	for _, s := range []string{c.Password, c.Token, strings.TrimSpace(c.NKey)} {
		if len(s) < shortest {
			continue
		}
		quoted := fmt.Sprintf("%q", s)
		escaped, _ := json.Marshal(s) // a string always marshals
		forms = append(forms, s, quoted[1:len(quoted)-1], string(escaped[1:len(escaped)-1]),
			url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s))
	}
	// The longest first: what holds another secret goes as a whole.
	slices.SortFunc(forms, func(a, b string) int {
		if d := len(b) - len(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var pairs []string
	for _, f := range slices.Compact(forms) {
		pairs = append(pairs, f, redacted)
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

// clean returns text without secrets, on one line, shortened.
func (r *redactor) clean(text string) string {
	text = r.replacer.Replace(strings.TrimPrefix(text, "nats: "))
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
		if b.Len() >= maxText {
			b.WriteString("…")
			return b.String()
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
	}
	return b.String()
}
