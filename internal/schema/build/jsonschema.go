package build

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// object is a JSON object. Its keys are written sorted.
type object map[string]any

// The forms of scalars, as strictyaml reads them.
var definitions = object{
	"duration": object{
		"description": "A number with its unit, such as 500ms, 10s, 1h30m or 7d.",
		"anyOf": []any{
			object{"type": "string", "minLength": 1, "pattern": `^(\d+(\.\d*)?d)?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$`},
			object{"const": 0},
		},
	},
	"rate": object{
		"description": "A number a second, minute or hour, such as 100/s, 30/m or 5/h.",
		"type":        "string", "pattern": `^\s*\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*/\s*[smh]\s*$`,
	},
	"size": object{
		"description": "A number of bytes with its unit, such as 512MiB or 1GB.",
		"type":        []any{"string", "integer"}, "minimum": 0, "pattern": `^\s*[\d,]*(\.\d+)?\s*([kKmMgGtTpPeE]?[iI]?[bB]?)\s*$`,
	},
	"secret": object{
		"description": "{env: NAME}, {file: PATH}, or the secret itself. It is never shown.",
		"oneOf": []any{
			object{"type": "string", "minLength": 1},
			object{
				"type": "object", "additionalProperties": false, "required": []any{"env"},
				"properties": object{"env": object{"type": "string", "minLength": 1, "description": "An environment variable."}},
			},
			object{
				"type": "object", "additionalProperties": false, "required": []any{"file"},
				"properties": object{"file": object{"type": "string", "minLength": 1, "description": "A file, relative to this one."}},
			},
		},
	},
	"expression": object{
		"description": "An expression in CEL.",
		"type":        []any{"string", "boolean", "number"},
	},
	"pattern": object{
		"description": "Keys: {x} matches one or more bytes except /, {x...} zero or more of any bytes, at the end only.",
		"type":        []any{"string", "boolean", "number"},
	},
}

var definitionOf = map[Kind]string{
	Duration: "duration", Rate: "rate", Size: "size", Secret: "secret", Expression: "expression", Pattern: "pattern",
}

// JSONSchema returns the schema (draft 2020-12) of files whose root is n.
func JSONSchema(title, description string, n *Node) ([]byte, error) {
	w := schemaWriter{used: object{}}
	root, err := w.schema(n)
	if err != nil {
		return nil, err
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"], root["description"] = title, description
	root["$defs"] = w.used
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

type schemaWriter struct{ used object }

func (w schemaWriter) schema(n *Node) (object, error) {
	if name, ok := definitionOf[n.Kind]; ok {
		w.used[name] = definitions[name]
		return object{"$ref": "#/$defs/" + name}, nil
	}
	switch n.Kind {
	case Object:
		return w.object(n)
	case List, OneOrList, Named:
		elem, err := w.schema(n.Elem)
		if err != nil {
			return nil, err
		}
		switch list := (object{"type": "array", "items": elem}); n.Kind {
		case List:
			return list, nil
		case OneOrList:
			return object{"anyOf": []any{elem, list}}, nil
		default:
			return object{"type": "object", "additionalProperties": elem}, nil
		}
	case Either:
		var all []any
		for _, e := range n.Either {
			s, err := w.schema(e)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
		return object{"anyOf": all}, nil
	case Word:
		return object{"const": n.Word}, nil
	case Anything:
		return object{}, nil
	case String:
		return object{"type": "string"}, nil
	case Bool:
		return object{"type": "boolean"}, nil
	case Integer:
		return object{"type": "integer"}, nil
	case Number:
		return object{"type": "number"}, nil
	default:
		return nil, fmt.Errorf("nothing is known of %q", n.Kind)
	}
}

func (w schemaWriter) object(n *Node) (object, error) {
	properties, required := object{}, []any{}
	for _, f := range n.Fields {
		s, err := w.schema(f.Node)
		if err != nil {
			return nil, err
		}
		s["description"] = f.Doc
		if f.Enum != nil {
			s["enum"] = f.Enum
		}
		for key, text := range map[string]string{"default": f.Default, "minimum": f.Min, "maximum": f.Max} {
			if text == "" {
				continue
			}
			var value any
			if err := yaml.Unmarshal([]byte(text), &value); err != nil {
				return nil, fmt.Errorf("the tag %s of %s: %w", key, f.Name, err)
			}
			s[key] = value
		}
		properties[f.Name] = s
		if f.Required {
			required = append(required, f.Name)
		}
	}
	o := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		o["required"] = required
	}
	if n.OneOf != nil {
		o["oneOf"] = demand(n.OneOf)
	}
	if n.MayOne != nil {
		// None of them, or exactly one.
		o["anyOf"] = []any{
			object{"not": object{"anyOf": demand(n.MayOne)}},
			object{"oneOf": demand(n.MayOne)},
		}
	}
	return o, nil
}

// demand returns one schema a field, which demands it.
func demand(fields []string) []any {
	var all []any
	for _, name := range fields {
		all = append(all, object{"required": []any{name}})
	}
	return all
}
