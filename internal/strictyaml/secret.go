package strictyaml

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
)

// Secret is a string that must not be shown. It is written as {env: NAME},
// {file: PATH} or a plain string, and read when the file is. However it is
// printed, it gives "[redacted]".
type Secret struct {
	value string
	from  string
}

const redacted = "[redacted]"

// NewSecret returns a secret that was given by other means than a file.
func NewSecret(value string) Secret { return Secret{value: value, from: "plain"} }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.from != "" }

// From says where the secret comes from, without saying what it is: "env NAME",
// "file PATH" or "plain".
func (s Secret) From() string { return s.from }

func (s Secret) String() string { return redacted }

// Format keeps every verb from printing the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements [json.Marshaler].
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// DecodeYAML implements [Decoder].
func (s *Secret) DecodeYAML(n *Node) {
	const hint = "write {env: NAME}, {file: PATH} or a string"
	switch n.Kind() {
	case String:
		if n.Text() == "" {
			n.Problemf(hint, "the secret is empty")
			return
		}
		*s = NewSecret(n.Text())
	case Bool, Number:
		n.Problemf("put it in quotes", "a secret must be a string") // its text stays out of the message
	case Map:
		var ref struct {
			Env  *string `yaml:"env"`
			File *string `yaml:"file"`
		}
		switch {
		case !n.Decode(&ref):
		case (ref.Env == nil) == (ref.File == nil):
			n.Problemf(hint, "a secret has either env or file")
		case ref.Env != nil:
			s.fromEnv(n, *ref.Env)
		default:
			s.fromFile(n, *ref.File)
		}
	default:
		n.Problemf(hint, "expected a secret, found %s", n.describe())
	}
}

func (s *Secret) fromEnv(n *Node, name string) {
	value, ok := n.doc.env.LookupEnv(name)
	switch {
	case !ok:
		n.Problemf("", "environment variable %s is not set", name)
	case value == "":
		n.Problemf("", "environment variable %s is empty", name)
	default:
		*s = Secret{value: value, from: "env " + name}
	}
}

func (s *Secret) fromFile(n *Node, name string) {
	path := n.doc.resolve(name)
	data, err := n.doc.env.ReadFile(path)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		n.Problemf("", "cannot read secret file %s: %s", path, err)
		return
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxSecret:
		n.Problemf("", "secret file %s is larger than 1 MiB", path)
	case value == "":
		n.Problemf("", "secret file %s is empty", path)
	default:
		*s = Secret{value: value, from: "file " + path}
	}
}
