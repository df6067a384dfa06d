package webhook

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
	// maxText bounds what an error says, in bytes.
	maxText = 300
)

// redactor removes the secrets of a configuration from texts of others.
type redactor struct {
	replacer *strings.Replacer
	longest  int
}

func newRedactor(c Config, u *url.URL) *redactor {
	var secrets []string
	for _, h := range c.Headers {
		switch strings.ToLower(h.Name) {
		case "content-type", "accept", "user-agent", "host":
			continue
		}
		secrets = append(secrets, h.Value)
		// "Bearer <token>", "a=1; b=2": parts are as good as the whole.
		for _, part := range strings.FieldsFunc(h.Value, func(r rune) bool { return strings.ContainsRune(" ;,=", r) }) {
			if len(part) >= 8 {
				secrets = append(secrets, part)
			}
		}
	}
	for _, s := range c.Sign {
		s = strings.TrimSpace(s)
		secrets = append(secrets, s, strings.TrimPrefix(strings.TrimPrefix(s, symmetricPrefix), asymmetricPrefix))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		user := u.User.Username()
		secrets = append(secrets, u.User.String(), password, basicAuth(user, password))
		if password == "" {
			secrets = append(secrets, user) // a token in the user's place
		}
	}
	if len(u.Path) > 1 {
		secrets = append(secrets, u.Path, u.EscapedPath())
		for _, segment := range strings.Split(u.Path, "/") {
			if len(segment) >= 8 {
				secrets = append(secrets, segment)
			}
		}
	}
	secrets = append(secrets, u.RawQuery)
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		_, value, _ := strings.Cut(pair, "=")
		secrets = append(secrets, value)
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}

	var forms []string
	for _, s := range secrets {
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
	forms = slices.Compact(forms)
	r := &redactor{}
	if len(forms) > 0 {
		r.longest = len(forms[0])
	}
	pairs := make([]string, 0, 2*len(forms))
	for _, f := range forms {
		pairs = append(pairs, f, redacted)
	}
	r.replacer = strings.NewReplacer(pairs...)
	return r
}

// clean returns text without secrets, on one line, shortened. Cut says that
// text is the beginning of something longer.
func (r *redactor) clean(text string, cut bool) string {
	if cut {
		// The end may be the beginning of a secret.
		text = text[:max(0, len(text)-r.longest)]
	}
	text = r.replacer.Replace(text)
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
	if cut && b.Len() > 0 {
		b.WriteString("…")
	}
	return b.String()
}
