package compare

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"

	"keyhook"
)

// Inventory is what a configuration comes to, field by field.
type Inventory struct {
	Key      []byte          `json:"key"` // of the hashes
	Rules    []Item          `json:"rules"`
	Sinks    []Item          `json:"sinks"`
	Ranges   []keyhook.Range `json:"ranges"` // disjoint, in key order
	Settings []Field         `json:"settings"`
}

// Item is a rule or a sink.
type Item struct {
	Name   string   `json:"name"`
	Was    []string `json:"was,omitempty"`
	Fields []Field  `json:"fields"`
}

// Field is one field with its value, or with the hash of one that is not shown.
// Fields of one name are a list.
type Field struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
	Hash []byte `json:"hash,omitempty"`
}

// KeySize is the least length of a key, in bytes.
const KeySize = sha256.Size

// NewKey returns a key for one comparison.
func NewKey() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	return key
}

// Hidden returns a field whose value is not shown.
func Hidden(key []byte, name, value string) Field {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value))
	return Field{Name: name, Hash: h.Sum(nil)}
}
