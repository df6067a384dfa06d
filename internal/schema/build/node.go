package build

import (
	"fmt"
	"reflect"
	"strings"

	"keyhook/internal/strictyaml"
)

// Kind is what a value is.
type Kind string

// Kinds. The strings are what the reference calls them.
const (
	Object     Kind = "map"
	List       Kind = "list"
	OneOrList  Kind = "one or a list"
	Named      Kind = "by name" // a map whose names are the user's
	String     Kind = "string"
	Bool       Kind = "bool"
	Integer    Kind = "integer"
	Number     Kind = "number"
	Duration   Kind = "duration"
	Rate       Kind = "rate"
	Size       Kind = "size"
	Secret     Kind = "secret"
	Expression Kind = "expression"
	Pattern    Kind = "pattern" // of keys
	Word       Kind = "word"    // one string only
	Either     Kind = "either"
	Anything   Kind = "anything"
)

// Node is what may stand at one place of a file.
type Node struct {
	Kind   Kind
	Elem   *Node   // of List, OneOrList and Named
	Fields []Field // of Object
	Either []*Node
	Word   string
	OneOf  []string // fields of an Object of which exactly one is given
	MayOne []string // fields of an Object of which at most one is given
}

// Field is a field of an Object.
type Field struct {
	Name     string
	Doc      string // what it means
	Required bool
	Default  string // as it would be written; empty: none
	Unset    string // what holds without it, in words
	Enum     []string
	Min, Max string
	Node     *Node
}

// Of returns what may stand in a file that is decoded into a value of type t.
// docs has the comments of the packages that declare the types.
func Of(t reflect.Type, docs Docs) (*Node, error) { return reader{docs}.node(t, "") }

type reader struct{ docs Docs }

var known = map[reflect.Type]Kind{
	reflect.TypeFor[strictyaml.Duration](): Duration,
	reflect.TypeFor[strictyaml.Rate]():     Rate,
	reflect.TypeFor[strictyaml.Size]():     Size,
	reflect.TypeFor[strictyaml.Secret]():   Secret,
	reflect.TypeFor[strictyaml.Text]():     Expression,
	reflect.TypeFor[strictyaml.Anything](): Anything,
}

var (
	position = reflect.TypeFor[strictyaml.Position]()
	decoder  = reflect.TypeFor[strictyaml.Decoder]()
	shaped   = reflect.TypeFor[strictyaml.Shaped]()
)

// node reads a type; path is where its fields' comments are found if it has no
// name of its own.
func (r reader) node(t reflect.Type, path string) (*Node, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if kind, ok := known[t]; ok {
		return &Node{Kind: kind}, nil
	}
	if t.PkgPath() == position.PkgPath() {
		switch generic, _, _ := strings.Cut(t.Name(), "["); generic {
		case "At":
			return r.node(t.Field(0).Type, path)
		case "OneOrList":
			return r.listOf(OneOrList, t, path)
		}
	}
	if t.Implements(shaped) || reflect.PointerTo(t).Implements(shaped) {
		return r.either(t, path)
	}
	if reflect.PointerTo(t).Implements(decoder) {
		return nil, fmt.Errorf("%s decodes itself: give it a method Shape, which says what it takes", t)
	}
	switch t.Kind() {
	case reflect.String:
		return &Node{Kind: String}, nil
	case reflect.Bool:
		return &Node{Kind: Bool}, nil
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64, reflect.Int32, reflect.Uint32:
		return &Node{Kind: Integer}, nil
	case reflect.Float64:
		return &Node{Kind: Number}, nil
	case reflect.Slice:
		return r.listOf(List, t, path)
	case reflect.Map:
		return r.listOf(Named, t, path)
	case reflect.Struct:
		return r.object(t, path)
	default:
		return nil, fmt.Errorf("nothing is known of the type %s", t)
	}
}

func (r reader) listOf(kind Kind, t reflect.Type, path string) (*Node, error) {
	elem, err := r.node(t.Elem(), path)
	return &Node{Kind: kind, Elem: elem}, err
}

// either reads a type that says itself what it takes.
func (r reader) either(t reflect.Type, path string) (*Node, error) {
	value, ok := reflect.New(t).Interface().(strictyaml.Shaped)
	if !ok {
		return nil, fmt.Errorf("%s cannot be asked for its shape", t)
	}
	either := &Node{Kind: Either}
	for _, shape := range value.Shape() {
		if word, ok := shape.(strictyaml.Word); ok {
			either.Either = append(either.Either, &Node{Kind: Word, Word: string(word)})
			continue
		}
		n, err := r.node(reflect.TypeOf(shape), path)
		if err != nil {
			return nil, err
		}
		either.Either = append(either.Either, n)
	}
	if len(either.Either) == 1 {
		return either.Either[0], nil
	}
	return either, nil
}

func (r reader) object(t reflect.Type, path string) (*Node, error) {
	if t.Name() != "" {
		path = t.PkgPath() + "." + t.Name()
	}
	n := &Node{Kind: Object}
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		switch option {
		case "position":
			n.OneOf, n.MayOne = split(sf.Tag.Get("oneof")), split(sf.Tag.Get("mostone"))
			continue
		case "inline":
			inner, err := r.object(sf.Type, path+"."+sf.Name)
			if err != nil {
				return nil, err
			}
			n.Fields = append(n.Fields, inner.Fields...)
			continue
		}
		at := path + "." + sf.Name
		elem, err := r.node(sf.Type, at)
		if err != nil {
			return nil, err
		}
		f := Field{
			Name: name, Doc: r.docs[at], Required: option == "required", Node: elem,
			Default: sf.Tag.Get("default"), Unset: sf.Tag.Get("unset"), Enum: split(sf.Tag.Get("enum")),
			Min: sf.Tag.Get("min"), Max: sf.Tag.Get("max"),
		}
		if as := sf.Tag.Get("as"); as != "" {
			elem.scalar().Kind = Kind(as)
		}
		if f.Doc == "" {
			return nil, fmt.Errorf("%s has no comment that says what %s means", at, name)
		}
		n.Fields = append(n.Fields, f)
	}
	for _, name := range append(append([]string{}, n.OneOf...), n.MayOne...) {
		if n.field(name) == nil {
			return nil, fmt.Errorf("%s: there is no field %s", path, name)
		}
	}
	return n, nil
}

// scalar returns what a list is of, n itself if it is none.
func (n *Node) scalar() *Node {
	for n.Elem != nil {
		n = n.Elem
	}
	return n
}

func (n *Node) field(name string) *Field {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return &n.Fields[i]
		}
	}
	return nil
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "|")
}
