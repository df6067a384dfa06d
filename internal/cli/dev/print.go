package dev

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"keyhook"
	"keyhook/internal/inbox"
	"keyhook/internal/inbox/natsinbox"
)

// maxShown is how many characters of a body are printed.
const maxShown = 220

// printer prints what happens, for people.
type printer struct {
	mu     sync.Mutex
	out    io.Writer
	colour bool
	err    error // the first one of writing
}

func newPrinter(out io.Writer) *printer {
	return &printer{out: out, colour: os.Getenv("NO_COLOR") == "" && terminal(out)}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintf(p.out, format, args...); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *printer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Attributes of a terminal.
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (p *printer) in(attribute, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

// change prints what is written into etcd.
func (p *printer) change(del bool, key, value string) {
	if del {
		p.printf("  %s %s\n", p.in(bold, "del"), p.in(bold, printable(key)))
		return
	}
	p.printf("  %s %s = %s\n", p.in(bold, "put"), p.in(bold, printable(key)), printable(value))
}

// request prints a webhook as it arrives. d is nil if its origin is unknown.
func (p *printer) request(r inbox.Request, d *keyhook.Delivery) {
	attempt := ""
	if r.Attempt > 1 {
		attempt = p.in(yellow, fmt.Sprintf("  attempt %d", r.Attempt))
	}
	answer := p.in(green, fmt.Sprintf("→ %d", r.Status))
	if !r.Acknowledged() {
		answer = p.in(red, fmt.Sprintf("→ %d", r.Status))
	}
	lines := []string{p.in(dim, "id") + " " + p.in(dim, r.ID)}
	if r.Acknowledged() {
		lines = append(lines, describe(r.Header, r.Body)...)
	}
	p.delivery(answer, strings.TrimPrefix(r.Path, "/"), attempt, d, r.Time, lines)
}

// message prints a message of NATS as it arrives. d is nil if its origin is
// unknown.
func (p *printer) message(m natsinbox.Message, d *keyhook.Delivery) {
	answer, where := "→ heard", ""
	switch m.Way {
	case natsinbox.Request:
		answer = "→ answered"
	case natsinbox.JetStream:
		answer, where = "→ stored", fmt.Sprintf("  number %d of the stream %s", m.Sequence, m.Stream)
	}
	lines := append([]string{
		p.in(dim, "id") + " " + p.in(dim, m.ID),
		p.in(dim, "subject") + " " + printable(m.Subject) + p.in(dim, where),
	}, describe(m.Header, m.Body)...)
	p.delivery(p.in(green, answer), "NATS", "", d, m.Time, lines)
}

// delivery prints what has come of an attempt, and the lines below it, in one
// piece.
func (p *printer) delivery(answer, sink, attempt string, d *keyhook.Delivery, at time.Time, lines []string) {
	rule, took := "keyhook", ""
	if d != nil {
		rule, sink = d.Rule, d.Sink
		took = p.in(dim, "  "+at.Sub(d.Event.Time).Round(100*time.Microsecond).String())
	}
	p.printf("    %s  %s ⇒ %s%s%s\n        %s\n", answer, rule, sink, attempt, took, strings.Join(lines, "\n        "))
}

// dead prints a delivery that was given up.
func (p *printer) dead(l *keyhook.DeadLetter) {
	d := l.Delivery
	p.printf("    %s  %s ⇒ %s  %s\n        %s\n", p.in(red, "✗ dead letter"), d.Rule, d.Sink, l.Reason, shorten(printable(l.Error)))
}

// describe returns the content of a message in a few lines.
func describe(header map[string][]string, body []byte) []string {
	if kind := header["ce-type"]; len(kind) > 0 { // in binary mode, of NATS
		return []string{"CloudEvent " + printable(kind[0]) + " about " + printable(strings.Join(header["ce-subject"], "")), shorten(compact(body))}
	}
	if strings.HasPrefix(strings.Join(header["Content-Type"], ""), "application/cloudevents+json") {
		var event struct {
			Type    string          `json:"type"`
			Subject string          `json:"subject"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(body, &event); err == nil {
			return []string{
				"CloudEvent " + event.Type + " about " + printable(event.Subject),
				shorten(compact(event.Data)),
			}
		}
	}
	return []string{shorten(compact(body))}
}

// compact returns JSON in one line, anything else as it is.
func compact(body []byte) string {
	var b bytes.Buffer
	if err := json.Compact(&b, body); err == nil {
		return b.String()
	}
	if !utf8.Valid(body) {
		return fmt.Sprintf("%d bytes, not text: %.40x", len(body), body)
	}
	return printable(string(body))
}

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= maxShown {
		return s
	}
	return string([]rune(s)[:maxShown-1]) + "…"
}

// printable keeps what came from a key or a value from controlling a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, strings.ToValidUTF8(s, "·"))
}
