package nats

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSubject bounds a subject. A server takes lines of 4096 bytes and closes the
// connection over longer ones; subject, reply and sizes share the line.
const maxSubject = 1024

// CheckSubject returns an error if nothing can be published to s: wildcards are
// for subscriptions, and what begins with "$" or "_INBOX." belongs to NATS
// itself, but for "$KV.", the buckets of its key-value store.
func CheckSubject(s string) error {
	switch {
	case s == "":
		return errors.New("the subject is empty")
	case len(s) > maxSubject:
		return fmt.Errorf("the subject has %d bytes, more than %d", len(s), maxSubject)
	case !utf8.ValidString(s):
		return errors.New("the subject is not UTF-8")
	case s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, ".."):
		return fmt.Errorf("the subject %q has an empty token", s)
	case strings.ContainsAny(s, "*>"):
		return fmt.Errorf("the subject %q has a wildcard; nats.token() escapes what comes from an event", s)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Errorf("the subject %q has a space or a control character; nats.token() escapes what comes from an event", s)
	case s[0] == '$' && !strings.HasPrefix(s, "$KV."), strings.HasPrefix(s, "_INBOX."):
		return fmt.Errorf("the subject %q belongs to NATS itself", s)
	}
	return nil
}
