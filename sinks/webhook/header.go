package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/net/http/httpguts"

	"keyhook"
)

// Headers of Standard Webhooks, as net/http spells them.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// reserved are the headers that keyhook or the protocol sets.
var reserved = map[string]bool{
	headerID: true, headerTimestamp: true, headerSignature: true,
	"Connection": true, "Content-Length": true, "Expect": true, "Keep-Alive": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true,
	"Upgrade": true,
}

// CheckName returns an error if a rule may not set a header of this name.
func CheckName(name string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return errors.New("is not a valid header name")
	case reserved[canonical], canonical == "Host":
		return errors.New("is set by keyhook and cannot be changed")
	}
	return nil
}

// checkHeader returns an error, without the value, if h cannot be sent.
func checkHeader(h keyhook.Header) error {
	if err := CheckName(h.Name); err != nil {
		return err
	}
	if !httpguts.ValidHeaderFieldValue(h.Value) {
		return errors.New("has a line break or another control character in its value")
	}
	return nil
}

// headers returns the headers of one request: those of the configuration, over
// them the message's, and the delivery's own. The error holds no value.
func (s *Sink) headers(d *keyhook.Delivery, now int64) (http.Header, error) {
	h := make(http.Header, len(s.header)+len(d.Message.Headers)+4)
	if d.Message.ContentType != "" {
		if !httpguts.ValidHeaderFieldValue(d.Message.ContentType) {
			return nil, errors.New("header Content-Type: the value has a control character")
		}
		h["Content-Type"] = []string{d.Message.ContentType}
	}
	// Values are shared between requests: net/http only reads them.
	for name, values := range s.header {
		h[name] = values
	}
	for i, m := range d.Message.Headers {
		name := http.CanonicalHeaderKey(m.Name)
		if err := checkHeader(m); err != nil {
			return nil, fmt.Errorf("header %q: %w", m.Name, err)
		}
		if i > 0 && rendered(d.Message.Headers[:i], name) {
			h[name] = append(h[name], m.Value)
		} else {
			h[name] = []string{m.Value}
		}
	}
	if d.ID == "" || !httpguts.ValidHeaderFieldValue(d.ID) {
		return nil, errors.New("the delivery has no valid id")
	}
	values := make([]string, 3)
	values[0] = d.ID
	values[1] = timestamp(now)
	h[headerID] = values[0:1:1]
	h[headerTimestamp] = values[1:2:2]
	if len(s.keys) > 0 {
		values[2] = s.sign(values[0], values[1], d.Message.Body)
		h[headerSignature] = values[2:3:3]
	}
	return h, nil
}

func rendered(before []keyhook.Header, canonical string) bool {
	for _, h := range before {
		if http.CanonicalHeaderKey(h.Name) == canonical {
			return true
		}
	}
	return false
}

func basicAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}
