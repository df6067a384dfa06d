package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"keyhook"
	"keyhook/rules"
)

// explanation is what the rules make of one change.
type explanation struct {
	Event  shownEvent     `json:"event"`
	Rules  []shownRule    `json:"rules"`       // whose keys match
	Others []string       `json:"other_rules"` // which look at other keys
	event  *keyhook.Event // as it is
}

// shownEvent is a change for programs.
type shownEvent struct {
	Type           string      `json:"type"`
	Key            string      `json:"key,omitempty"`
	KeyBase64      []byte      `json:"key_base64,omitempty"`
	Value          *string     `json:"value,omitempty"`
	ValueBase64    []byte      `json:"value_base64,omitempty"`
	Revision       int64       `json:"revision"`
	CreateRevision int64       `json:"create_revision,omitempty"`
	Version        int64       `json:"version,omitempty"`
	Lease          string      `json:"lease,omitempty"`
	Prev           *shownValue `json:"prev,omitempty"`
	Last           *shownValue `json:"last,omitempty"`
}

// shownValue is what a key held before.
type shownValue struct {
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	Revision    int64   `json:"revision,omitempty"`
}

type shownRule struct {
	Rule       string            `json:"rule"`
	At         string            `json:"at"`
	Pattern    string            `json:"pattern"`
	Params     map[string]string `json:"params,omitempty"`
	Matched    bool              `json:"matched"`
	Error      string            `json:"error,omitempty"`
	When       *shownStep        `json:"when,omitempty"`
	Vars       []shownVariable   `json:"vars,omitempty"`
	Deliveries []shownDelivery   `json:"deliveries,omitempty"`
}

type shownVariable struct {
	Name string     `json:"name"`
	Step *shownStep `json:"step"`
}

type shownStep struct {
	Text      string          `json:"text"`
	At        string          `json:"at"`
	Evaluated bool            `json:"evaluated"`
	Value     json.RawMessage `json:"value,omitempty"`
	Error     string          `json:"error,omitempty"`
	Decisive  bool            `json:"decisive"`
	Parts     []*shownStep    `json:"parts,omitempty"`
}

type shownDelivery struct {
	For         string        `json:"for,omitempty"`   // how long its condition must hold
	Every       string        `json:"every,omitempty"` // how long others then wait
	ID          string        `json:"id"`
	Rule        string        `json:"rule"`
	Send        string        `json:"send"`
	Sink        string        `json:"sink"`
	ContentType string        `json:"content_type,omitempty"`
	Subject     string        `json:"subject,omitempty"`
	Headers     []shownHeader `json:"headers,omitempty"`
	Body        *string       `json:"body,omitempty"`
	BodyBase64  []byte        `json:"body_base64,omitempty"`
	Reason      string        `json:"dead_letter,omitempty"` // why there is no message
	Error       string        `json:"error,omitempty"`
}

type shownHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// explain says what the rules made of ev; with names, only those.
func explain(traces []rules.Trace, set *rules.Set, ev *keyhook.Event, names []string) explanation {
	x := explanation{Event: showEvent(ev), Rules: []shownRule{}, Others: []string{}, event: ev}
	wanted := func(name string) bool { return len(names) == 0 || slices.Contains(names, name) }
	for i := range traces {
		if t := &traces[i]; t.Event == ev && wanted(t.Rule.Name) {
			x.Rules = append(x.Rules, showTrace(t))
		}
	}
	for _, r := range set.Rules() {
		if !set.LooksAt(r.Name, ev.Key) && wanted(r.Name) {
			x.Others = append(x.Others, r.Name)
		}
	}
	return x
}

func showEvent(ev *keyhook.Event) shownEvent {
	s := shownEvent{
		Type: ev.Type.String(), Revision: ev.Revision, CreateRevision: ev.CreateRevision, Version: ev.Version,
		Prev: showValue(ev.Prev), Last: showValue(ev.Last),
	}
	s.Key, s.KeyBase64 = keyText(ev.Key)
	if ev.Type == keyhook.Put {
		s.Value, s.ValueBase64 = textOrBytes(ev.Value)
	}
	if ev.Lease != 0 {
		s.Lease = strconv.FormatInt(ev.Lease, 16)
	}
	return s
}

func showValue(kv *keyhook.KeyValue) *shownValue {
	if kv == nil {
		return nil
	}
	s := &shownValue{Revision: kv.Revision}
	s.Value, s.ValueBase64 = textOrBytes(kv.Value)
	return s
}

// keyText returns a key as text, or as bytes where it is not UTF-8.
func keyText(key []byte) (text string, raw []byte) {
	if utf8.Valid(key) {
		return string(key), nil
	}
	return "", key
}

// textOrBytes does so for a value, which may be empty.
func textOrBytes(b []byte) (text *string, raw []byte) {
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func showTrace(t *rules.Trace) shownRule {
	r := shownRule{Rule: t.Rule.Name, At: t.Rule.Position.String(), Pattern: t.Pattern, Matched: t.Matched}
	for _, p := range t.Params {
		if r.Params == nil {
			r.Params = map[string]string{}
		}
		r.Params[p.Name] = p.Value
	}
	if t.Err != nil {
		r.Error = t.Err.Error()
	}
	r.When = showStep(t.When)
	for _, v := range t.Vars {
		r.Vars = append(r.Vars, shownVariable{Name: v.Name, Step: showStep(v.Step)})
	}
	for _, d := range t.Deliveries {
		r.Deliveries = append(r.Deliveries, showDelivery(d))
	}
	return r
}

func showStep(s *rules.Step) *shownStep {
	if s == nil {
		return nil
	}
	out := &shownStep{Text: s.Text, At: s.Position.String(), Evaluated: s.Evaluated, Error: s.Err, Decisive: s.Decisive}
	if s.Evaluated && s.Err == "" {
		out.Value = json.RawMessage(s.Value)
		if !json.Valid(out.Value) { // cut off, or nothing that JSON knows
			out.Value = json.RawMessage(strconv.Quote(s.Value))
			if quoted, err := json.Marshal(s.Value); err == nil {
				out.Value = quoted
			}
		}
	}
	for _, p := range s.Parts {
		out.Parts = append(out.Parts, showStep(p))
	}
	return out
}

func showDelivery(d *keyhook.Delivery) shownDelivery {
	s := shownDelivery{ID: d.ID, Rule: d.Rule, Send: d.Send, Sink: d.Sink}
	if d.Timing.For > 0 {
		s.For = d.Timing.For.String()
	}
	if d.Timing.Every > 0 {
		s.Every = d.Timing.Every.String()
	}
	if d.Rejected != nil {
		s.Reason, s.Error = string(d.Rejected.Reason), d.Rejected.Error
		return s
	}
	s.ContentType, s.Subject = d.Message.ContentType, d.Message.Subject
	for _, h := range d.Message.Headers {
		s.Headers = append(s.Headers, shownHeader{h.Name, h.Value})
	}
	s.Body, s.BodyBase64 = textOrBytes(d.Message.Body)
	return s
}

// printExplanations writes what the rules make of changes for people.
func printExplanations(out io.Writer, all []explanation) error {
	var b strings.Builder
	for i := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		all[i].write(&b)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

const maxShown = 160 // characters of a value in a line

func (x *explanation) write(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n", eventLine(x.event))
	for i := range x.Rules {
		x.Rules[i].write(b)
	}
	if len(x.Rules) == 0 {
		b.WriteString("\nno rule looks at this key\n")
	}
	if n := len(x.Others); n > 0 {
		verb := "looks"
		if n > 1 {
			verb = "look"
		}
		fmt.Fprintf(b, "\n%s %s at other keys: %s\n", counted(n, "rule"), verb, shorten(strings.Join(x.Others, ", ")))
	}
}

// eventLine describes a change in a line.
func eventLine(ev *keyhook.Event) string {
	s := fmt.Sprintf("%s %s", ev.Type, printableBytes(ev.Key))
	if ev.Type == keyhook.Put {
		s += " = " + shorten(quoted(ev.Value))
	}
	switch {
	case ev.Prev != nil:
		s += ", before: " + shorten(quoted(ev.Prev.Value))
	case ev.Last != nil:
		s += ", before it was deleted: " + shorten(quoted(ev.Last.Value))
	case ev.Type == keyhook.Put:
		s += ", created"
	}
	return s
}

func quoted(b []byte) string {
	if !utf8.Valid(b) {
		return fmt.Sprintf("(%d bytes)", len(b))
	}
	if json.Valid(b) && len(b) > 0 && (b[0] == '{' || b[0] == '[') {
		return printable(string(b))
	}
	return strconv.Quote(string(b))
}

func printableBytes(b []byte) string {
	q := strconv.Quote(string(b))
	return q[1 : len(q)-1]
}

func shorten(s string) string { return shortened(s, maxShown) }

func (r *shownRule) write(b *strings.Builder) {
	state := "does not match"
	switch {
	case r.Error != "":
		state = "fails, which counts as not matching"
		if len(r.Deliveries) > 0 {
			state = "fails, and becomes a dead letter"
		}
	case r.Matched:
		state = "matches"
	}
	fmt.Fprintf(b, "\n%s %s  (%s)\n", r.Rule, state, r.At)
	fmt.Fprintf(b, "  keys: %s", r.Pattern)
	for i, name := range slices.Sorted(maps.Keys(r.Params)) {
		separator := ", "
		if i == 0 {
			separator = "  with "
		}
		fmt.Fprintf(b, "%sparams.%s = %q", separator, name, r.Params[name])
	}
	b.WriteString("\n")
	if r.Error != "" {
		fmt.Fprintf(b, "  %s\n", r.Error)
	}
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	if r.When != nil {
		r.When.write(w, "  when: ", 1, true)
	}
	for _, v := range r.Vars {
		v.Step.write(w, "  vars."+v.Name+": ", 1, false)
	}
	_ = w.Flush() // a strings.Builder takes everything
	for _, d := range r.Deliveries {
		d.write(b)
	}
}

// write writes a step and its parts, which are two columns: the text, and its
// value. Of what decides, only the innermost is marked.
func (s *shownStep) write(w io.Writer, head string, depth int, mark bool) {
	value := "not evaluated"
	switch {
	case s.Error != "":
		value = "error: " + s.Error
	case s.Evaluated:
		value = string(s.Value)
	}
	inner := slices.ContainsFunc(s.Parts, func(p *shownStep) bool { return p.Decisive })
	if mark && s.Decisive && !inner && depth > 1 {
		value += "   ← decides"
	}
	fmt.Fprintf(w, "%s%s\t%s\n", head, shorten(s.Text), shorten(printable(strings.ReplaceAll(value, "\t", " "))))
	for _, p := range s.Parts {
		p.write(w, strings.Repeat("    ", depth), depth+1, mark && s.Decisive)
	}
}

func (d *shownDelivery) write(b *strings.Builder) {
	fmt.Fprintf(b, "  → %s", d.Sink)
	if d.Send != d.Sink {
		fmt.Fprintf(b, " (%s)", d.Send)
	}
	if d.Reason != "" {
		fmt.Fprintf(b, ": a dead letter, reason %s: %s\n", d.Reason, d.Error)
		return
	}
	fmt.Fprintf(b, ", %s%s\n", d.ContentType, d.timing())
	if d.Subject != "" {
		fmt.Fprintf(b, "      subject: %s\n", d.Subject)
	}
	for _, h := range d.Headers {
		fmt.Fprintf(b, "      %s: %s\n", h.Name, printable(h.Value))
	}
	body := fmt.Sprintf("(%d bytes)", len(d.BodyBase64))
	if d.Body != nil {
		body = *d.Body
	}
	for line := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
		fmt.Fprintf(b, "      %s\n", printable(line))
	}
}

// timing says when it goes out, if not at once.
func (d *shownDelivery) timing() string {
	text := ""
	if d.For != "" {
		text = ", if it holds for " + d.For
	}
	if d.Every != "" {
		text += ", at most every " + d.Every
	}
	return text
}
