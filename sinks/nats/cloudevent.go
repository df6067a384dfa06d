package nats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"keyhook"
)

const (
	// structured is what the type of a CloudEvent in structured mode begins with.
	structured = "application/cloudevents"
	// eventJSON is the event format that can be taken apart.
	eventJSON = structured + "+json"
	// attributePrefix begins the headers of attributes in binary mode.
	attributePrefix = "ce-"
)

// isEvent reports whether contentType says CloudEvent, and whether it is one
// that can be taken apart.
func isEvent(contentType string) (event, inJSON bool) {
	if contentType == eventJSON { // as rules without a body have it
		return true, true
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false, false
	}
	return strings.HasPrefix(t, structured), t == eventJSON
}

// binaryMode turns a CloudEvent of the JSON event format into the headers and
// the body of binary mode, as the NATS protocol binding has it since its
// version 1.0.3.
func binaryMode(event []byte) (headers []keyhook.Header, body []byte, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(event, &members); err != nil {
		return nil, nil, errors.New("the CloudEvent is not a JSON object")
	}
	attributes := make(map[string]string, len(members))
	for name, value := range members {
		if name == "data" || name == "data_base64" || string(value) == "null" {
			continue
		}
		if !isAttribute(name) {
			return nil, nil, fmt.Errorf("the CloudEvent has an attribute %q: names are made of a-z and 0-9", name)
		}
		if attributes[name], err = canonical(value); err != nil {
			return nil, nil, fmt.Errorf("the attribute %s of the CloudEvent %w", name, err)
		}
	}
	for _, name := range []string{"specversion", "id", "source", "type"} {
		if attributes[name] == "" {
			return nil, nil, fmt.Errorf("the CloudEvent has no %s", name)
		}
	}
	body, err = eventData(members, attributes)
	if err != nil {
		return nil, nil, err
	}
	headers = make([]keyhook.Header, 0, len(attributes))
	for name, value := range attributes {
		headers = append(headers, keyhook.Header{Name: attributePrefix + name, Value: encodeValue(value)})
	}
	slices.SortFunc(headers, func(a, b keyhook.Header) int { return strings.Compare(a.Name, b.Name) })
	return headers, body, nil
}

// eventData returns the data of an event. JSON is what data is made of if
// nothing else is said, which is said from here on.
func eventData(members map[string]json.RawMessage, attributes map[string]string) ([]byte, error) {
	if encoded, ok := members["data_base64"]; ok && string(encoded) != "null" {
		var data []byte
		if _, both := members["data"]; both {
			return nil, errors.New("the CloudEvent has both data and data_base64")
		}
		if err := json.Unmarshal(encoded, &data); err != nil {
			return nil, errors.New("data_base64 of the CloudEvent is not base64")
		}
		return data, nil
	}
	data, ok := members["data"]
	if !ok {
		return nil, nil
	}
	if attributes["datacontenttype"] == "" {
		attributes["datacontenttype"] = "application/json"
	}
	var text string
	if !isJSON(attributes["datacontenttype"]) && json.Unmarshal(data, &text) == nil {
		return []byte(text), nil
	}
	return data, nil
}

// isJSON reports whether data of this type is JSON.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	_, subtype, _ := strings.Cut(t, "/")
	return subtype == "json" || strings.HasSuffix(subtype, "+json")
}

func isAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// canonical returns the string form of an attribute's value. The JSON event
// format knows strings, booleans and integers.
func canonical(value json.RawMessage) (string, error) {
	switch value[0] {
	case '"':
		var s string
		if err := json.Unmarshal(value, &s); err != nil {
			return "", errors.New("is not a valid string")
		}
		return s, nil
	case '{', '[':
		return "", errors.New("is not a string, a boolean or an integer")
	}
	if bytes.ContainsAny(value, ".eE") && value[0] != 't' && value[0] != 'f' {
		return "", errors.New("is a number, but not an integer")
	}
	return string(value), nil
}

const hexDigits = "0123456789ABCDEF"

// encodeValue is the percent-encoding of header values: of everything but
// printable ASCII, and of space, quote and percent. It is also used for bytes
// that are not UTF-8.
func encodeValue[T string | []byte](s T) string {
	b := make([]byte, 0, len(s)+len(s)/8)
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '%' {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}
