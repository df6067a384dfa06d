package rules

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyhook"
)

// Content types of messages.
const (
	contentText       = "text/plain; charset=utf-8"
	contentJSON       = "application/json"
	contentBytes      = "application/octet-stream"
	contentCloudEvent = "application/cloudevents+json"
	headerContentType = "content-type"
)

// render makes the message of d.
func (s *send) render(st *state, d *keyhook.Delivery) (failed *failure) {
	current := s.body
	defer func() {
		if p := recover(); p != nil {
			if current == nil {
				current = &expression{what: "the default body"}
			}
			failed = panicked(current, p)
		}
	}()
	// A variable that failed while the condition was evaluated does not count
	// here, unless it is needed again.
	st.limit = nil
	if s.body == nil {
		d.Message.ContentType = contentCloudEvent
		if st.rule.grouped {
			d.Message.Body = appendGroupEvent(nil, st.source.Name, d.ID, string(st.per), d.Group)
		} else {
			d.Message.Body = appendCloudEvent(make([]byte, 0, cloudEventSize(st.event)), st.source.Name, d.ID, st.event)
		}
	} else if failed := s.renderBody(st, &d.Message); failed != nil {
		return failed
	}
	if len(s.headers) > 0 {
		d.Message.Headers = make([]keyhook.Header, 0, len(s.headers))
	}
	for i := range s.headers {
		h := &s.headers[i]
		current = h.value
		value, failed := h.value.evalString(st, maxHeader)
		if failed != nil {
			return failed
		}
		if strings.EqualFold(h.name, headerContentType) {
			d.Message.ContentType = value
			continue
		}
		d.Message.Headers = append(d.Message.Headers, keyhook.Header{Name: h.name, Value: value})
	}
	return s.renderSubject(st, &d.Message)
}

// renderSubject makes the subject of a message, if the send has one.
func (s *send) renderSubject(st *state, m *keyhook.Message) (failed *failure) {
	if s.subject == nil {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			failed = panicked(s.subject, p)
		}
	}()
	m.Subject, failed = s.subject.evalString(st, maxSubject)
	if failed == nil && m.Subject == "" {
		failed = &failure{expr: s.subject, text: "the subject is empty"}
	}
	return failed
}

// evaluate evaluates an expression of a message, where a limit that a variable
// ran into counts even if the expression absorbed it.
func (x *expression) evaluate(st *state) (ref.Val, *failure) {
	v, failed := x.eval(st, x.kind.mayUseTime())
	if st.limit != nil {
		return nil, st.limit
	}
	return v, failed
}

// evalString evaluates an expression that must give one line of text.
func (x *expression) evalString(st *state, limit int) (string, *failure) {
	v, failed := x.evaluate(st)
	if failed != nil {
		return "", failed
	}
	s, ok := v.(types.String)
	if !ok {
		return "", &failure{expr: x, text: fmt.Sprintf("it must give a string, not %s", v.Type().TypeName())}
	}
	switch {
	case len(s) > limit:
		return "", &failure{expr: x, text: fmt.Sprintf("it gives %d bytes, more than %d", len(s), limit)}
	case !utf8.ValidString(string(s)):
		return "", &failure{expr: x, text: "it gives text that is not UTF-8"}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", &failure{expr: x, text: fmt.Sprintf("it gives text with the control character 0x%02x", c)}
		}
	}
	return string(s), nil
}

// renderBody renders a body: a string as text, bytes as they are, all else as
// JSON.
func (s *send) renderBody(st *state, m *keyhook.Message) *failure {
	v, failed := s.body.evaluate(st)
	if failed != nil {
		return failed
	}
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return &failure{expr: s.body, text: "it gives an optional without a value"}
		}
		v = o.GetValue()
	}
	switch b := v.(type) {
	case types.String:
		m.ContentType, m.Body = contentText, []byte(b)
	case types.Bytes:
		m.ContentType, m.Body = contentBytes, append([]byte(nil), b...)
	default:
		body, err := appendJSON(nil, v)
		if errors.Is(err, errPayload) {
			return &failure{reason: keyhook.ReasonLimit, expr: s.body, text: err.Error()}
		}
		if err != nil {
			return &failure{expr: s.body, text: err.Error()}
		}
		m.ContentType, m.Body = contentJSON, body
	}
	if len(m.Body) > maxPayload {
		return &failure{reason: keyhook.ReasonLimit, expr: s.body,
			text: fmt.Sprintf("the body has %d bytes, more than %d", len(m.Body), maxPayload)}
	}
	return nil
}
