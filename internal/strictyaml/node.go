package strictyaml

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// Decoder is implemented by types that decode themselves. DecodeYAML reports
// what is wrong to the node, not by an error, so that decoding goes on and finds
// the rest.
type Decoder interface {
	DecodeYAML(n *Node)
}

// Kind is the shape of a node.
type Kind uint8

// Kinds.
const (
	Null Kind = iota + 1
	Bool
	Number
	String
	List
	Map
)

func (k Kind) String() string {
	switch k {
	case Null:
		return "nothing"
	case Bool:
		return "true or false"
	case Number:
		return "a number"
	case String:
		return "a string"
	case List:
		return "a list"
	case Map:
		return "a map"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// Node is a value in a file, with its place. It is valid while the file is
// being decoded.
type Node struct {
	doc *document
	// at is the node as it stands in the file, raw what it stands for: they
	// differ for an alias.
	at, raw *yaml.Node
}

// Entry is a key of a map with its value.
type Entry struct {
	Key, Value *Node
}

// Position returns the place of n.
func (n *Node) Position() Position {
	return Position{Path: n.doc.path, Line: n.at.Line, Column: n.at.Column}
}

// Kind returns the shape of n.
func (n *Node) Kind() Kind {
	switch n.raw.Kind {
	case yaml.SequenceNode:
		return List
	case yaml.MappingNode:
		return Map
	default:
	}
	switch n.raw.ShortTag() {
	case "!!null":
		return Null
	case "!!bool":
		return Bool
	case "!!int", "!!float":
		return Number
	default:
		return String
	}
}

// Text returns a scalar as it is written, without quotes and escapes.
func (n *Node) Text() string { return n.raw.Value }

// Items returns the elements of a list.
func (n *Node) Items() []*Node {
	if n.raw.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]*Node, 0, len(n.raw.Content))
	for _, c := range n.raw.Content {
		if item := n.doc.node(c); item != nil {
			items = append(items, item)
		}
	}
	return items
}

// Entries returns the entries of a map in the order of the file. Keys that are
// no strings, merge keys and duplicates are reported and left out.
func (n *Node) Entries() []Entry {
	if n.raw.Kind != yaml.MappingNode {
		return nil
	}
	seen := make(map[string]Position, len(n.raw.Content)/2)
	entries := make([]Entry, 0, len(n.raw.Content)/2)
	for i := 0; i+1 < len(n.raw.Content); i += 2 {
		key, value := n.doc.node(n.raw.Content[i]), n.doc.node(n.raw.Content[i+1])
		if key == nil || value == nil {
			continue
		}
		n.doc.show(key.at)
		if key.raw.ShortTag() == "!!merge" {
			key.Problemf("write the fields out, or use an alias for the whole value", "merge keys (<<) are not supported")
			continue
		}
		if key.Kind() != String {
			key.Problemf("put it in quotes", "a key must be a string, found %s", key.describe())
			continue
		}
		if first, dup := seen[key.Text()]; dup {
			key.report(key.Position().Problemf("duplicate key %q", key.Text()).
				WithHint("it is also at " + first.String()))
			continue
		}
		seen[key.Text()] = key.Position()
		entries = append(entries, Entry{Key: key, Value: value})
	}
	return entries
}

// Problemf reports a problem at n. The hint may be empty.
func (n *Node) Problemf(hint, format string, args ...any) {
	n.report(n.Position().Problemf(format, args...).WithHint(hint))
}

// Report reports a problem at another place than that of n.
func (n *Node) Report(p Problem) { n.report(p) }

// Decode decodes n into the value that into points to, as [Decode] does, and
// reports whether it found no problem.
func (n *Node) Decode(into any) bool {
	before := len(n.doc.problems)
	n.decode(into)
	return len(n.doc.problems) == before
}

func (n *Node) report(p Problem) { n.doc.problems = append(n.doc.problems, p) }

// describe names what n is, for a message that expected something else.
func (n *Node) describe() string {
	switch k := n.Kind(); k {
	case Bool, Number:
		return n.raw.Value
	default:
		return k.String()
	}
}
