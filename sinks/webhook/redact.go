package webhook

import (
	"encoding/base64"
	"net/url"
	"strings"

	"keyhook/sinks/redact"
)

// newRedactor knows what in the configuration is secret: the values of headers,
// signing secrets, and most of the URL.
func newRedactor(c Config, u *url.URL) *redact.Redactor {
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
		if scheme, basic, _ := strings.Cut(h.Value, " "); strings.EqualFold(scheme, "Basic") {
			if pair, err := base64.StdEncoding.DecodeString(basic); err == nil {
				_, password, _ := strings.Cut(string(pair), ":")
				secrets = append(secrets, string(pair), password)
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
	return redact.New(secrets...)
}
