package ruletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"keyhook/internal/strictyaml"
)

// difference is where a delivery is not what is expected.
type difference struct {
	field     string
	want, got string
	diff      string // in place of the two, for what has several lines
}

func (d difference) String() string {
	if d.diff != "" {
		return d.field + "\n" + indent(d.diff, "  ")
	}
	return fmt.Sprintf("%s: want %s, got %s", d.field, d.want, d.got)
}

// differences compares all that w says with a.
func (w *arrivalSpec) differences(a *arrival) []difference {
	var all []difference
	differ := func(field, want, got string) {
		if want != got {
			all = append(all, difference{field: field, want: want, got: got})
		}
	}
	for _, f := range []struct {
		name string
		want *string
		got  string
	}{
		{"rule", value(w.Rule), a.Rule},
		{"send", value(w.Send), a.Send},
		{"sink", value(w.Sink), a.Sink},
		{"key", value(w.Key), string(a.Event.Key)},
		{"type", value(w.Type), a.Event.Type.String()},
		{"content_type", value(w.ContentType), a.Message.ContentType},
		{"subject", value(w.Subject), a.Message.Subject},
	} {
		if f.want != nil {
			differ(f.name, strconv.Quote(*f.want), strconv.Quote(f.got))
		}
	}
	if w.Attempts != nil {
		differ("attempts", strconv.Itoa(w.Attempts.Value), strconv.Itoa(a.attempts))
	}
	if w.At != nil {
		differ("at", short(w.At.Value.Std()), short(a.at))
	}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		got, ok := header(a, name)
		if want := w.Headers[name].Value; !ok {
			all = append(all, difference{field: "headers." + name, want: strconv.Quote(want), got: "none"})
		} else {
			differ("headers."+name, strconv.Quote(want), strconv.Quote(got))
		}
	}
	if w.Body != nil {
		all = append(all, w.Body.differences(a.Message.Body)...)
	}
	if w.BodyContains != nil {
		all = append(all, w.BodyContains.differences(a.Message.Body)...)
	}
	return all
}

// value returns what is wanted, nil if nothing is.
func value(v *strictyaml.At[string]) *string {
	if v == nil {
		return nil
	}
	return &v.Value
}

// header returns a header that the rule has rendered.
func header(a *arrival, name string) (string, bool) {
	if strings.EqualFold(name, "content-type") {
		return a.Message.ContentType, true
	}
	for _, h := range a.Message.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value, true
		}
	}
	return "", false
}

// differences compares a whole body: as JSON where a document is expected, to
// the byte where text is.
func (d *document) differences(body []byte) []difference {
	if !d.json {
		if bytes.Equal(d.text, body) {
			return nil
		}
		return []difference{textDifference("body", string(d.text), printable(body))}
	}
	want, err := parse(d.text)
	if err != nil {
		return []difference{{field: "body", want: "JSON", got: err.Error()}} // appendNode writes JSON
	}
	got, err := parse(body)
	if err != nil {
		return []difference{{field: "body", want: "JSON", got: strconv.Quote(printable(body))}}
	}
	if equal(want, got) {
		return nil
	}
	return []difference{textDifference("body", pretty(want), pretty(got))}
}

// differences looks for parts of a body.
func (p *partial) differences(body []byte) []difference {
	if p.json == nil {
		var all []difference
		for _, text := range p.texts {
			if !bytes.Contains(body, []byte(text)) {
				all = append(all, difference{field: "body_contains", want: strconv.Quote(text), got: strconv.Quote(printable(body))})
			}
		}
		return all
	}
	want, err := parse(p.json)
	if err != nil {
		return []difference{{field: "body_contains", want: "JSON", got: err.Error()}}
	}
	got, err := parse(body)
	if err != nil {
		return []difference{{field: "body_contains", want: "JSON", got: strconv.Quote(printable(body))}}
	}
	if got = reduce(want, got); equal(want, got) {
		return nil
	}
	return []difference{textDifference("body_contains", pretty(want), pretty(got))}
}

// reduce returns the part of got that want speaks of.
func reduce(want, got any) any {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return got
		}
		part := make(map[string]any, len(w))
		for name, inner := range w {
			if v, ok := g[name]; ok {
				part[name] = reduce(inner, v)
			}
		}
		return part
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return got
		}
		part := make([]any, len(g))
		for i := range g {
			part[i] = reduce(w[i], g[i])
		}
		return part
	default:
		return got
	}
}

// parse reads one document, with numbers as they are written.
func parse(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more than one document")
	}
	return v, nil
}

// equal compares documents; 1 and 1.0 are the same number.
func equal(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, equal)
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case json.Number:
		y, ok := b.(json.Number)
		return ok && (x == y || sameNumber(string(x), string(y)))
	default:
		return a == b
	}
}

func sameNumber(a, b string) bool {
	i, errI := strconv.ParseInt(a, 10, 64)
	j, errJ := strconv.ParseInt(b, 10, 64)
	if errI == nil && errJ == nil {
		return i == j
	}
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// pretty writes a document on several lines.
func pretty(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v) // what was parsed can be written
	}
	return strings.TrimRight(b.String(), "\n")
}

// readable writes a body for people: JSON on several lines.
func readable(body []byte) string {
	if v, err := parse(body); err == nil {
		switch v.(type) {
		case map[string]any, []any:
			return pretty(v)
		}
	}
	return printable(body)
}

// printable writes bytes that may be anything.
func printable(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	q := strconv.Quote(string(b))
	return q[1 : len(q)-1]
}

// textDifference shows short texts beside each other, and long ones as a diff.
func textDifference(field, want, got string) difference {
	d := difference{field: field, want: strconv.Quote(want), got: strconv.Quote(got)}
	if !strings.Contains(want, "\n") && !strings.Contains(got, "\n") {
		return d
	}
	d.diff = strings.TrimRight(string(diff.Diff("want", []byte(want+"\n"), "got", []byte(got+"\n"))), "\n")
	// The first line repeats the command of a diff.
	if first, rest, ok := strings.Cut(d.diff, "\n"); ok && strings.HasPrefix(first, "diff ") {
		d.diff = rest
	}
	return d
}

func indent(s, by string) string {
	return by + strings.ReplaceAll(s, "\n", "\n"+by)
}
