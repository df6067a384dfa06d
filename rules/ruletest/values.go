package ruletest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"keyhook/internal/strictyaml"
)

// entries are keys with what is put there, in the order of the file.
type entries struct {
	Position strictyaml.Position
	all      []entry
}

// entry is one key. The fields behind value are those of a seed.
type entry struct {
	at    strictyaml.Position
	key   string
	value []byte
	lease *strictyaml.At[string]

	revision, createRevision, version int64 // 0: as it comes
	deleted                           bool
}

// DecodeYAML implements [strictyaml.Decoder].
func (s *entries) DecodeYAML(n *strictyaml.Node) {
	s.Position = n.Position()
	if !n.Expect(strictyaml.Map) {
		return
	}
	for _, e := range n.Entries() {
		key, ok := decodeKey(e.Key)
		if !ok {
			continue
		}
		one := entry{at: e.Key.Position(), key: key}
		if one.decode(e.Value) {
			s.all = append(s.all, one)
		}
	}
}

// dollar begins the names of fields that are not part of a document.
const dollar = "$"

// decode reads a value: text, a document that is written as JSON, or one with
// its circumstances.
func (e *entry) decode(n *strictyaml.Node) bool {
	if !circumstances(n) {
		return decodeValue(n, &e.value)
	}
	var long entryFields
	if !n.Decode(&long) {
		return false
	}
	switch {
	case (long.Value == nil) == (long.Base64 == nil):
		n.Problemf("", "write one of $value and $base64")
		return false
	case long.Value != nil:
		e.value = *long.Value
	default:
		e.value = *long.Base64
	}
	e.lease, e.revision, e.createRevision, e.version, e.deleted = long.Lease, long.Revision, long.Create, long.Version, long.Deleted
	return true
}

// entryFields are a value with its circumstances.
type entryFields struct {
	// What the key holds: text, or a document.
	Value *rawValue `yaml:"$value"`
	// The same, of bytes.
	Base64 *rawBase64 `yaml:"$base64"`
	// The lease of this key.
	Lease *strictyaml.At[string] `yaml:"$lease"`
	// The revision that wrote it; in a seed, as the others below.
	Revision int64 `yaml:"$revision"`
	// The revision that created it.
	Create int64 `yaml:"$create_revision"`
	// How often it was written.
	Version int64 `yaml:"$version"`
	// It is what the key held before it was deleted.
	Deleted bool `yaml:"$deleted"`
}

// entryForm is what is put to a key, as it is written.
type entryForm struct{}

// Shape implements [strictyaml.Shaped].
func (*entryForm) Shape() []any { return []any{entryFields{}, strictyaml.Anything{}} }

// Shape implements [strictyaml.Shaped].
func (*entries) Shape() []any { return []any{map[string]entryForm{}} }

// Shape implements [strictyaml.Shaped].
func (*rawValue) Shape() []any { return []any{strictyaml.Anything{}} }

// Shape implements [strictyaml.Shaped].
func (*rawBase64) Shape() []any { return []any{""} }

// Shape implements [strictyaml.Shaped].
func (*keys) Shape() []any { return []any{strictyaml.OneOrList[string]{}} }

// Shape implements [strictyaml.Shaped].
func (*document) Shape() []any { return []any{strictyaml.Anything{}} }

// Shape implements [strictyaml.Shaped].
func (*partial) Shape() []any { return []any{strictyaml.Anything{}} }

// circumstances reports whether n is a value with its circumstances: a map all
// of whose names begin with "$".
func circumstances(n *strictyaml.Node) bool {
	if n.Kind() != strictyaml.Map {
		return false
	}
	fields := n.Entries()
	for _, f := range fields {
		switch strings.TrimPrefix(f.Key.Text(), dollar) {
		case "value", "base64", "lease", "revision", "create_revision", "version", "deleted":
		default:
			return false
		}
		if !strings.HasPrefix(f.Key.Text(), dollar) {
			return false
		}
	}
	return len(fields) > 0
}

// rawValue is text, or a document as JSON.
type rawValue []byte

// DecodeYAML implements [strictyaml.Decoder].
func (v *rawValue) DecodeYAML(n *strictyaml.Node) { decodeValue(n, (*[]byte)(v)) }

// rawBase64 is bytes.
type rawBase64 []byte

// DecodeYAML implements [strictyaml.Decoder].
func (v *rawBase64) DecodeYAML(n *strictyaml.Node) {
	if !n.Expect(strictyaml.String) {
		return
	}
	b, err := base64.StdEncoding.DecodeString(n.Text())
	if err != nil {
		n.Problemf("", "this is not base64")
		return
	}
	*v = b
}

func decodeValue(n *strictyaml.Node, into *[]byte) bool {
	switch n.Kind() {
	case strictyaml.Map, strictyaml.List:
		b, ok := appendNode(nil, n)
		*into = b
		return ok
	case strictyaml.Null:
		n.Problemf(`write "" for an empty value`, "there is no value here")
		return false
	default:
		*into = []byte(n.Text())
		return true
	}
}

// appendNode writes n as JSON on one line, in the order of the file.
func appendNode(dst []byte, n *strictyaml.Node) ([]byte, bool) {
	ok := true
	switch n.Kind() {
	case strictyaml.Map:
		dst = append(dst, '{')
		for i, e := range n.Entries() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, e.Key.Text()), ':')
			var good bool
			dst, good = appendNode(dst, e.Value)
			ok = ok && good
		}
		return append(dst, '}'), ok
	case strictyaml.List:
		dst = append(dst, '[')
		for i, item := range n.Items() {
			if i > 0 {
				dst = append(dst, ',')
			}
			var good bool
			dst, good = appendNode(dst, item)
			ok = ok && good
		}
		return append(dst, ']'), ok
	case strictyaml.Null:
		return append(dst, "null"...), true
	case strictyaml.Bool:
		return append(dst, strings.ToLower(n.Text())...), true
	case strictyaml.Number:
		if !json.Valid([]byte(n.Text())) {
			n.Problemf("put it in quotes if it is text", "%s is not a number of JSON", n.Text())
			return dst, false
		}
		return append(dst, n.Text()...), true
	default:
		return appendText(dst, n.Text()), true
	}
}

// appendText writes s, which is UTF-8 as the whole file, as a JSON string.
func appendText(dst []byte, s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return strconv.AppendQuote(dst, s) // a string can always be encoded
	}
	return append(dst, bytes.TrimRight(b.Bytes(), "\n")...)
}

// keys are keys, or prefixes; one may stand by itself.
type keys struct {
	Position strictyaml.Position
	all      []string
}

// DecodeYAML implements [strictyaml.Decoder].
func (k *keys) DecodeYAML(n *strictyaml.Node) {
	k.Position = n.Position()
	nodes := []*strictyaml.Node{n}
	if n.Kind() == strictyaml.List {
		nodes = n.Items()
	}
	for _, one := range nodes {
		if !one.Expect(strictyaml.String) {
			continue
		}
		if key, ok := decodeKey(one); ok {
			k.all = append(k.all, key)
		}
	}
}

// base64Key begins a key that is written in base64.
const base64Key = "$base64:"

var errKey = errors.New("what follows " + base64Key + " is not base64")

// keyOf returns the key that text stands for.
func keyOf(text string) (string, error) {
	encoded, ok := strings.CutPrefix(text, base64Key)
	if !ok {
		return text, nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", errKey
	}
	return string(b), nil
}

func decodeKey(n *strictyaml.Node) (string, bool) {
	key, err := keyOf(n.Text())
	if err != nil {
		n.Problemf("", "%s", err)
	}
	return key, err == nil
}

// document is an expected body: text as it stands, or JSON.
type document struct {
	Position strictyaml.Position
	json     bool
	text     []byte
}

// DecodeYAML implements [strictyaml.Decoder].
func (d *document) DecodeYAML(n *strictyaml.Node) {
	d.Position = n.Position()
	d.json = n.Kind() == strictyaml.Map || n.Kind() == strictyaml.List
	decodeValue(n, &d.text)
}

// partial is what a body must contain: texts, or members of a JSON document.
type partial struct {
	Position strictyaml.Position
	texts    []string
	json     []byte // nil: texts
}

// DecodeYAML implements [strictyaml.Decoder].
func (p *partial) DecodeYAML(n *strictyaml.Node) {
	p.Position = n.Position()
	documents := func(item *strictyaml.Node) bool {
		return item.Kind() == strictyaml.Map || item.Kind() == strictyaml.List
	}
	if n.Kind() == strictyaml.Map || slices.ContainsFunc(n.Items(), documents) {
		p.json, _ = appendNode(nil, n)
		return
	}
	var texts strictyaml.OneOrList[string]
	if n.Decode(&texts) {
		p.texts = texts
	}
}

var errLease = errors.New("not the id of a lease")

func parseLease(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 16, 64)
	if err != nil || id <= 0 {
		return 0, errLease
	}
	return id, nil
}
