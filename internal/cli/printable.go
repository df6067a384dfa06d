package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
)

// printable returns s as it may reach a terminal: what does not print, such as
// control characters and those that turn the direction of text, is escaped.
func printable(s string) string {
	plain := func(r rune) bool { return strconv.IsPrint(r) && r != utf8.RuneError }
	if strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if plain(r) || r == utf8.RuneError && size > 1 {
			b.WriteString(s[i : i+size])
		} else {
			quoted := strconv.QuoteToASCII(s[i : i+size])
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += size
	}
	return b.String()
}

// shortened returns the beginning of s, in at most n characters.
func shortened(s string, n int) string {
	runes := 0
	for i := range s {
		if runes++; runes == n {
			if rest := s[i:]; utf8.RuneCountInString(rest) > 1 {
				return s[:i] + "…"
			}
			break
		}
	}
	return s
}

// textOf returns a key as people read it.
func textOf(text string, raw []byte) string {
	if len(raw) > 0 {
		return printable(string(raw))
	}
	return printable(text)
}

// ago returns how long t lies back.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}

func size(n int) string {
	return humanize.IBytes(uint64(max(n, 0)))
}

func comma(n int64) string { return humanize.Comma(n) }

// plural returns "1 dead letter", "1,200 dead letters"; what ends in y does so
// with ies.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		what = stem + "ie"
	}
	return comma(int64(n)) + " " + what + "s"
}

// appendJSON appends v as JSON that may reach a terminal: encoding/json leaves
// some control characters as they are.
func appendJSON(b []byte, v any, indent string) ([]byte, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		if r != '\n' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)) { // the encoder has escaped all line ends
			b = appendEscape(b, r)
		} else {
			b = utf8.AppendRune(b, r)
		}
	}
	return b, nil
}

// printJSON prints v for programs, on several lines.
func printJSON(w io.Writer, v any) error { return writeJSON(w, v, "  ") }

// printJSONLine prints v for programs, on one line.
func printJSONLine(w io.Writer, v any) error { return writeJSON(w, v, "") }

func writeJSON(w io.Writer, v any, indent string) error {
	text, err := appendJSON(nil, v, indent)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func appendEscape(b []byte, r rune) []byte {
	if r < 0x10000 {
		return fmt.Appendf(b, `\u%04x`, r)
	}
	r -= 0x10000
	return fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
}

// printList prints items as one JSON array, as they come.
type printList struct {
	w    io.Writer
	some bool
}

func (l *printList) add(v any) error {
	before := ",\n  "
	if !l.some {
		before, l.some = "[\n  ", true
	}
	text, err := appendJSON([]byte(before), v, "")
	if err != nil {
		return err
	}
	_, err = l.w.Write(text)
	return err
}

func (l *printList) end() error {
	after := "\n]\n"
	if !l.some {
		after = "[]\n"
	}
	_, err := io.WriteString(l.w, after)
	return err
}
