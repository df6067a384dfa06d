package nats

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"keyhook/sinks"
)

// verdict is what a reply means. One that is not final leaves the question open.
type verdict struct {
	err   error
	final bool
}

// Errors of JetStream that mean something to us; the numbers are part of its
// protocol.
const (
	codeNoStream       = 10059
	codeNotEnabled     = 10076
	codeNotForAccount  = 10039
	codeOtherStream    = 10060
	codeMessageTooBig  = 10054
	codeHeadersTooBig  = 10097
	codeTTLInvalid     = 10165
	codeScheduleBad    = 10189
	codeScheduleTarget = 10190
	codeScheduleTTL    = 10191
)

// acknowledgement is what a stream answers to a message, and the JetStream API
// to a request.
type acknowledgement struct {
	Stream string    `json:"stream"`
	Error  *apiError `json:"error"`
}

type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

// nobody reports whether the server says that nobody listens.
func nobody(m *natsgo.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get("Status") == "503"
}

// stored judges the answer to a message for a stream. What is no answer of
// JetStream comes from an application that listens on the same subject, and
// says nothing about the stream.
func (s *Sink) stored(subject string, m *natsgo.Msg) verdict {
	if nobody(m) {
		return verdict{s.noStream(subject), true}
	}
	if s.alike(m.Data) {
		return verdict{nil, true}
	}
	var ack acknowledgement
	switch err := json.Unmarshal(m.Data, &ack); {
	case err != nil:
		return verdict{}
	case ack.Error != nil:
		return verdict{s.refused(subject, ack.Error), true}
	case ack.Stream == "", s.cfg.Stream != "" && ack.Stream != s.cfg.Stream:
		return verdict{}
	}
	if n := beforeSequence(m.Data); n > 0 {
		known := bytes.Clone(m.Data[:n])
		s.known.Store(&known)
	}
	return verdict{nil, true}
}

// alike reports whether an acknowledgement differs in its sequence number alone
// from one that was found to be good: then it is good as well. Reading each anew
// would cost as much as sending the message.
func (s *Sink) alike(data []byte) bool {
	known := s.known.Load()
	return known != nil && beforeSequence(data) == len(*known) && bytes.HasPrefix(data, *known)
}

// beforeSequence returns what comes before the number that an acknowledgement
// ends with, as that of a stream does: {"stream":"NAME","seq":1}. It is 0 if it
// ends otherwise.
func beforeSequence(data []byte) int {
	rest, ok := bytes.CutSuffix(data, []byte("}"))
	if !ok {
		return 0
	}
	number := len(rest)
	for number > 0 && rest[number-1] >= '0' && rest[number-1] <= '9' {
		number--
	}
	if number == len(rest) || !bytes.HasSuffix(rest[:number], []byte(`"seq":`)) {
		return 0
	}
	return number
}

func (s *Sink) noStream(subject string) error {
	if s.cfg.Stream != "" {
		return reached(sinks.Unavailable, "no stream takes the subject %q: does the stream %q list it? (nats stream info %s)", subject, s.cfg.Stream, s.cfg.Stream)
	}
	return reached(sinks.Unavailable, "no stream takes the subject %q: add it to one, or leave jetstream out to send without storing", subject)
}

// refused is what JetStream has against a message.
func (s *Sink) refused(subject string, e *apiError) error {
	failure := &sinks.Error{Status: e.Code}
	text := s.redact.Clean(e.Description, false)
	switch e.ErrCode {
	case codeMessageTooBig, codeHeadersTooBig, codeTTLInvalid, codeScheduleBad, codeScheduleTarget, codeScheduleTTL:
		failure.Kind = sinks.Rejected
	case codeOtherStream:
		text = "the subject " + quote(subject) + " belongs to another stream than " + quote(s.cfg.Stream)
	default:
		switch e.Code {
		case 429:
			failure.Kind, failure.Reach = sinks.Throttled, sinks.Unavailable
		case 503:
			failure.Reach = sinks.Unavailable
		}
	}
	failure.Err = errors.New("JetStream: " + text)
	return failure
}

func quote(s string) string { return `"` + s + `"` }

// replied judges the answer of an application. Errors are told as NATS services
// tell them.
func (s *Sink) replied(subject string, m *natsgo.Msg) verdict {
	if nobody(m) {
		return verdict{reached(sinks.Unavailable, "nobody listens on the subject %q", subject), true}
	}
	code, text := header(m, "Nats-Service-Error-Code"), header(m, "Nats-Service-Error")
	if code == "" && text == "" {
		return verdict{nil, true}
	}
	return verdict{retry("the reply is an error: %s", s.redact.Clean(strings.TrimSpace(code+" "+text), false)), true}
}

// header returns a header, whose name is the same in upper and lower case.
func header(m *natsgo.Msg, name string) string {
	for n, values := range m.Header {
		if strings.EqualFold(n, name) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}
