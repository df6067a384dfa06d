package strictyaml

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// OneOrList is a value, or a list of values.
type OneOrList[T any] []T

// DecodeYAML implements [Decoder].
func (l *OneOrList[T]) DecodeYAML(n *Node) {
	if n.Kind() != List {
		*l = make([]T, 1)
		n.Decode(&(*l)[0])
		return
	}
	items := n.Items()
	*l = make([]T, len(items))
	for i, item := range items {
		item.Decode(&(*l)[i])
	}
}

// At is a value with its place. The place is unset where there is no value or
// it has a mistake, which has been reported.
type At[T any] struct {
	Value    T
	Position Position
}

// DecodeYAML implements [Decoder].
func (a *At[T]) DecodeYAML(n *Node) {
	if n.Decode(&a.Value) {
		a.Position = n.Position()
	}
}

// IsSet reports whether a has a value.
func (a At[T]) IsSet() bool { return a.Position.Line > 0 }

func (n *Node) decode(into any) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		n.Problemf("", "cannot decode into %T", into)
		return
	}
	n.fill(v.Elem())
}

// fill decodes n into v, which is addressable.
func (n *Node) fill(v reflect.Value) {
	if n.Kind() == Null {
		n.Problemf("write one, or remove the field", "there is no value here")
		return
	}
	if d, ok := v.Addr().Interface().(Decoder); ok {
		d.DecodeYAML(n)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		n.fill(p.Elem())
		v.Set(p)
	case reflect.Struct:
		n.fillStruct(v)
	case reflect.Map:
		n.fillMap(v)
	case reflect.Slice:
		n.fillSlice(v)
	case reflect.String:
		if n.Expect(String) {
			v.SetString(n.Text())
		}
	case reflect.Bool:
		if n.Expect(Bool) {
			v.SetBool(strings.EqualFold(n.Text(), "true"))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n.fillInt(v)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n.fillUint(v)
	case reflect.Float32, reflect.Float64:
		n.fillFloat(v)
	default:
		n.Problemf("", "cannot decode into %s", v.Type())
	}
}

// Expect reports a problem unless n is of kind want.
func (n *Node) Expect(want Kind) bool {
	got := n.Kind()
	if got == want {
		n.doc.show(n.at)
		return true
	}
	hint := ""
	switch {
	case want == String && (got == Bool || got == Number):
		hint = "put it in quotes"
	case want == Bool && got == String:
		hint = "write true or false, without quotes"
	case want == Number && got == String:
		hint = "write a number, without quotes"
	}
	n.Problemf(hint, "expected %s, found %s", want, n.describe())
	return false
}

func (n *Node) fillInt(v reflect.Value) {
	if !n.Expect(Number) {
		return
	}
	i, err := strconv.ParseInt(n.Text(), 0, v.Type().Bits())
	if err != nil {
		n.Problemf("", "expected a whole number between %d and %d, found %s",
			int64(math.MinInt64)>>(64-v.Type().Bits()), int64(math.MaxInt64)>>(64-v.Type().Bits()), n.describe())
		return
	}
	v.SetInt(i)
}

func (n *Node) fillUint(v reflect.Value) {
	if !n.Expect(Number) {
		return
	}
	u, err := strconv.ParseUint(n.Text(), 0, v.Type().Bits())
	if err != nil {
		n.Problemf("", "expected a whole number between 0 and %d, found %s",
			uint64(math.MaxUint64)>>(64-v.Type().Bits()), n.describe())
		return
	}
	v.SetUint(u)
}

func (n *Node) fillFloat(v reflect.Value) {
	if !n.Expect(Number) {
		return
	}
	f, err := strconv.ParseFloat(n.Text(), v.Type().Bits())
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		n.Problemf("", "expected a number, found %s", n.describe())
		return
	}
	v.SetFloat(f)
}

func (n *Node) fillSlice(v reflect.Value) {
	if !n.Expect(List) {
		return
	}
	items := n.Items()
	s := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		item.fill(s.Index(i))
	}
	v.Set(s)
}

func (n *Node) fillMap(v reflect.Value) {
	if v.Type().Key().Kind() != reflect.String {
		n.Problemf("", "cannot decode into %s", v.Type())
		return
	}
	if !n.Expect(Map) {
		return
	}
	m := reflect.MakeMap(v.Type())
	for _, e := range n.Entries() {
		value := reflect.New(v.Type().Elem()).Elem()
		e.Value.fill(value)
		m.SetMapIndex(reflect.ValueOf(e.Key.Text()).Convert(v.Type().Key()), value)
	}
	v.Set(m)
}

func (n *Node) fillStruct(v reflect.Value) {
	fields, place := structFields(v.Type())
	if place != nil {
		v.FieldByIndex(place).Set(reflect.ValueOf(n.Position()))
	}
	if !n.Expect(Map) {
		return
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	found := make(map[string]bool, len(fields))
	for _, e := range n.Entries() {
		name := e.Key.Text()
		known := false
		for _, f := range fields {
			if f.name == name {
				known, found[name] = true, true
				e.Value.fill(v.FieldByIndex(f.index))
			}
		}
		if !known {
			e.Key.Problemf(DidYouMean(name, names), "unknown field %q", name)
		}
	}
	for _, f := range fields {
		if f.required && !found[f.name] {
			n.Problemf("", "missing field %q", f.name)
		}
	}
}

type field struct {
	name     string
	index    []int
	required bool
}

// structFields reads the tags of t: `yaml:"name"` and `yaml:"name,required"`;
// `yaml:",inline"` on an embedded struct; `yaml:",position"` on a [Position]
// that takes the place of the whole. Fields without a tag are left alone.
func structFields(t reflect.Type) (fields []field, place []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("yaml")
		if !ok || tag == "-" {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		switch option {
		case "position":
			place = sf.Index
		case "inline":
			inner, _ := structFields(sf.Type)
			for _, f := range inner {
				f.index = append([]int{i}, f.index...)
				fields = append(fields, f)
			}
		case "", "required":
			fields = append(fields, field{name: name, index: sf.Index, required: option == "required"})
		default:
			panic(fmt.Sprintf("strictyaml: unknown option %q in the tag of %s.%s", option, t, sf.Name))
		}
	}
	return fields, place
}
