package nats

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"

	"keyhook"
)

// Headers that keyhook sets.
const (
	headerID          = "Nats-Msg-Id"
	headerStream      = "Nats-Expected-Stream"
	headerKey         = "Keyhook-Key"
	headerContentType = "Content-Type"
)

// maxKey bounds the header with the key of the event: JetStream takes 64 KiB of
// headers.
const maxKey = 32 << 10

// CheckName returns an error if a rule may not set a header of this name.
func CheckName(name string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return errors.New("is not a valid header name")
	case strings.EqualFold(name, headerID), strings.EqualFold(name, headerStream), strings.EqualFold(name, headerKey):
		return errors.New("is set by keyhook and cannot be changed")
	}
	return nil
}

// message makes m what goes out for d. It shares the body with d. The error
// holds no value of a header.
func (s *Sink) message(m *outgoing, d *keyhook.Delivery) error {
	if err := CheckSubject(d.Message.Subject); err != nil {
		return err
	}
	if d.ID == "" || !isPrintable(d.ID) {
		return errors.New("the delivery has no valid id")
	}
	m.Subject, m.Data = d.Message.Subject, d.Message.Body
	m.set(headerID, d.ID)
	if s.cfg.Stream != "" {
		m.set(headerStream, s.cfg.Stream)
	}
	for _, h := range d.Message.Headers {
		if err := checkHeader(h); err != nil {
			return fmt.Errorf("header %q: %w", h.Name, err)
		}
		// Names are compared as they are: they arrive as the rule wrote them.
		m.add(h.Name, h.Value)
	}
	return s.content(m, d)
}

// content sets the type of the body, or, in binary mode, takes a CloudEvent
// apart.
func (s *Sink) content(m *outgoing, d *keyhook.Delivery) error {
	event, inJSON := isEvent(d.Message.ContentType)
	if event && inJSON && s.cfg.Binary {
		headers, body, err := binaryMode(d.Message.Body)
		if err != nil {
			return err
		}
		for _, h := range headers {
			for name := range m.Header {
				if strings.EqualFold(name, h.Name) {
					return fmt.Errorf("header %q: is an attribute of the CloudEvent", name)
				}
			}
			m.set(h.Name, h.Value)
		}
		m.Data = body
		return nil
	}
	if t := d.Message.ContentType; t != "" {
		if !httpguts.ValidHeaderFieldValue(t) {
			return errors.New("header Content-Type: the value has a control character")
		}
		m.set(headerContentType, t)
	}
	if !event && d.Event != nil {
		if key := encodeValue(d.Event.Key); key != "" && len(key) <= maxKey {
			m.set(headerKey, key)
		}
	}
	return nil
}

// checkHeader returns an error, without the value, if h would not arrive as it
// is: the client library turns line breaks into spaces.
func checkHeader(h keyhook.Header) error {
	if err := CheckName(h.Name); err != nil {
		return err
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) {
		return errors.New("the value has a line break or another control character")
	}
	return nil
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
