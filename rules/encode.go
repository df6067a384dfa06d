package rules

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

var errPayload = fmt.Errorf("the JSON is larger than %d bytes", maxPayload)

// appendJSON appends v as JSON to dst. Keys of maps are sorted; integers are
// exact, as are all numbers in objects and arrays that were read from JSON; bytes
// become base64, timestamps RFC 3339 with nanoseconds, durations seconds as in
// "90s". What JSON cannot say is an error: keys that are no strings, NaN and
// infinities, text that is not UTF-8, types.
func appendJSON(dst []byte, v ref.Val) ([]byte, error) { return appendValue(dst, v, 0) }

func appendValue(dst []byte, v ref.Val, depth int) ([]byte, error) {
	if depth > maxNesting {
		return dst, fmt.Errorf("the value is nested deeper than %d levels", maxNesting)
	}
	if len(dst) > maxPayload {
		return dst, errPayload
	}
	switch t := v.(type) {
	case types.Null:
		return append(dst, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(dst, bool(t)), nil
	case types.Int:
		return strconv.AppendInt(dst, int64(t), 10), nil
	case types.Uint:
		return strconv.AppendUint(dst, uint64(t), 10), nil
	case types.Double:
		return appendDouble(dst, float64(t))
	case types.String:
		if !utf8.ValidString(string(t)) {
			return dst, errors.New("a string in it is not UTF-8")
		}
		return appendQuoted(dst, string(t)), nil
	case types.Bytes:
		return appendBase64(dst, t), nil
	case types.Timestamp:
		dst = append(dst, '"')
		dst = t.UTC().AppendFormat(dst, time.RFC3339Nano)
		return append(dst, '"'), nil
	case types.Duration:
		dst = append(dst, '"')
		dst = append(dst, formatSeconds(t.Duration)...)
		return append(dst, '"'), nil
	case *types.Optional:
		if !t.HasValue() {
			return append(dst, "null"...), nil
		}
		return appendValue(dst, t.GetValue(), depth)
	case *eventVal:
		return appendEventData(dst, t.st.event), nil
	case *valueVal:
		return appendOldValue(dst, t.kv), nil
	case *paramsVal:
		return appendParams(dst, t)
	case traits.Mapper:
		return appendMap(dst, t, depth)
	case traits.Lister:
		return appendList(dst, t, depth)
	default:
		return dst, fmt.Errorf("a %s cannot be written as JSON", v.Type().TypeName())
	}
}

func appendList(dst []byte, l traits.Lister, depth int) ([]byte, error) {
	var exact map[int]string
	if read, ok := l.(*jsonList); ok {
		exact = read.exact
	}
	dst = append(dst, '[')
	it := l.Iterator()
	for i := 0; it.HasNext() == types.True; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		v := it.Next()
		if text, ok := exact[i]; ok {
			dst = append(dst, text...)
			continue
		}
		var err error
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, m traits.Mapper, depth int) ([]byte, error) {
	var keys []string
	for it := m.Iterator(); it.HasNext() == types.True; {
		k, ok := it.Next().(types.String)
		if !ok {
			return dst, errors.New("a map in it has a key that is not a string; convert it: string(...)")
		}
		if !utf8.ValidString(string(k)) {
			return dst, errors.New("a key in it is not UTF-8")
		}
		keys = append(keys, string(k))
	}
	slices.Sort(keys)
	var exact map[string]string
	if read, ok := m.(*jsonMap); ok {
		exact = read.exact
	}
	dst = append(dst, '{')
	for i, k := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, k), ':')
		if text, ok := exact[k]; ok {
			dst = append(dst, text...)
			continue
		}
		v, found := m.Find(types.String(k))
		if !found {
			return dst, fmt.Errorf("no such key: %s", k)
		}
		var err error
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func appendParams(dst []byte, p *paramsVal) ([]byte, error) {
	dst = append(dst, '{')
	for i, name := range p.st.rule.captures {
		if i > 0 {
			dst = append(dst, ',')
		}
		v, err := p.st.param(i)
		if err != nil {
			return dst, err
		}
		dst = append(appendQuoted(dst, name), ':')
		if dst, err = appendJSON(dst, v); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendDouble writes a number as encoding/json does. A whole number keeps no
// mark of having been a double: JSON has one kind of number.
func appendDouble(dst []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, fmt.Errorf("%v is not a number of JSON", f)
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64), nil
}

// formatSeconds writes a duration as protocol buffers do: "1.5s".
func formatSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes text that is UTF-8 as a JSON string.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}
