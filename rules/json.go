package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// parseJSON reads a document as CEL sees it. A number is an int or, above those,
// a uint where it is written without fraction and exponent and fits, a double
// otherwise. A double that is not what is written keeps the text, for when the
// document is written again.
func parseJSON(data []byte) (ref.Val, error) {
	if len(data) > maxJSON {
		return nil, fmt.Errorf("the JSON value has %d bytes, more than %d", len(data), maxJSON)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("the value is not JSON: it is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		return nil, fmt.Errorf("the value is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the value is not JSON: something follows the document")
	}
	v, _, err := celValue(tree, 0)
	return v, err
}

// celValue turns a decoded document into CEL values, in place, and returns its
// size in bytes, near enough for a limit.
func celValue(tree any, depth int) (ref.Val, uint32, error) {
	if depth > maxDepth {
		return nil, 0, fmt.Errorf("the JSON value is nested deeper than %d levels", maxDepth)
	}
	switch t := tree.(type) {
	case nil:
		return types.NullValue, 1, nil
	case bool:
		return types.Bool(t), 1, nil
	case string:
		return types.String(t), uint32(min(len(t)+1, math.MaxUint32)), nil
	case json.Number:
		v, err := celNumber(string(t))
		return v, 1, err
	case []any:
		elems := make([]ref.Val, len(t))
		total := uint32(1)
		var exact map[int]string
		for i := range t {
			if text, ok := exactText(t[i]); ok {
				if exact == nil {
					exact = map[int]string{}
				}
				exact[i] = text
			}
			v, size, err := celValue(t[i], depth+1)
			if err != nil {
				return nil, 0, err
			}
			elems[i] = v
			total += size
		}
		return &jsonList{Lister: types.NewRefValList(types.DefaultTypeAdapter, elems), exact: exact, size: total}, total, nil
	case map[string]any:
		total := uint32(1)
		var exact map[string]string
		for k := range t {
			if text, ok := exactText(t[k]); ok {
				if exact == nil {
					exact = map[string]string{}
				}
				exact[k] = text
			}
			v, size, err := celValue(t[k], depth+1)
			if err != nil {
				return nil, 0, err
			}
			t[k] = v
			total += size + uint32(min(len(k)+1, math.MaxUint32))
		}
		return &jsonMap{Mapper: types.NewStringInterfaceMap(types.DefaultTypeAdapter, t), fields: t, exact: exact, size: total}, total, nil
	default:
		return nil, 0, fmt.Errorf("unexpected %T in JSON", tree)
	}
}

func celNumber(s string) (ref.Val, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && s != "-0" {
		return types.Int(i), nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return types.Uint(u), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("the number %s in the JSON value is too large", s)
	}
	return types.Double(f), nil
}

// exactText returns a number as it is written, if the double that it becomes has
// fewer digits.
func exactText(tree any) (string, bool) {
	n, ok := tree.(json.Number)
	if !ok || len(n) <= doubleDigits {
		return "", false
	}
	v, err := celNumber(string(n))
	f, ok := v.(types.Double)
	if err != nil || !ok {
		return "", false
	}
	written, err := appendDouble(nil, float64(f))
	return string(n), err == nil && string(written) != string(n)
}

// doubleDigits is how many digits a double always keeps.
const doubleDigits = 15

// jsonMap is an object that knows its size, which keeps limits from walking it,
// and is walked in the order of its keys, so that an expression comes out the same
// whenever the change is read.
type jsonMap struct {
	traits.Mapper
	fields map[string]any // of ref.Val
	exact  map[string]string
	keys   []string // sorted, once they are needed
	size   uint32
}

func (m *jsonMap) sorted() []string {
	if m.keys == nil {
		m.keys = slices.Sorted(maps.Keys(m.fields))
	}
	return m.keys
}

// Iterator implements [traits.Iterable].
func (m *jsonMap) Iterator() traits.Iterator {
	return types.NewStringList(types.DefaultTypeAdapter, m.sorted()).Iterator()
}

// Fold implements [traits.Foldable].
func (m *jsonMap) Fold(f traits.Folder) {
	for _, k := range m.sorted() {
		if !f.FoldEntry(types.String(k), m.fields[k]) {
			return
		}
	}
}

// Find implements [traits.Mapper] without an allocation.
func (m *jsonMap) Find(key ref.Val) (ref.Val, bool) {
	if k, ok := key.(types.String); ok {
		v, found := m.fields[string(k)]
		if !found {
			return nil, false
		}
		value, ok := v.(ref.Val)
		return value, ok
	}
	return m.Mapper.Find(key)
}

// AggregateSize implements [types.AggregateSizeVisitor].
func (m *jsonMap) AggregateSize(types.AggregateSizer) uint32 { return m.size }

// jsonList is an array that knows its size.
type jsonList struct {
	traits.Lister
	exact map[int]string
	size  uint32
}

// AggregateSize implements [types.AggregateSizeVisitor].
func (l *jsonList) AggregateSize(types.AggregateSizer) uint32 { return l.size }
