package schema_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// properties returns the fields of a schema's root.
func properties(t *testing.T, source string) map[string]any {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal([]byte(source), &root); err != nil {
		t.Fatal(err)
	}
	return inner(root)
}

// inner returns the fields of the map that a schema allows, also as one of
// several forms or as an item of a list; nil if there is none.
func inner(schema any) map[string]any {
	s, _ := schema.(map[string]any)
	if fields, ok := s["properties"].(map[string]any); ok {
		return fields
	}
	if items, ok := s["items"]; ok {
		return inner(items)
	}
	either, _ := s["anyOf"].([]any)
	for _, form := range either {
		if fields := inner(form); fields != nil {
			return fields
		}
	}
	return nil
}

// values returns each field that has a default with it, as JSON, and the maps
// among the fields with theirs. Lists of maps are left out.
func values(fields map[string]any) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field, _ := fields[name].(map[string]any)
		if value, ok := field["default"]; ok {
			text, err := json.Marshal(value)
			if err != nil {
				panic(err) // it was read from JSON
			}
			all = append(all, name+": "+unquoted(string(text)))
			continue
		}
		if _, list := field["items"]; list || name == "webhook" || name == "nats" || name == "send" || name == "tls" {
			continue
		}
		if inside := values(inner(field)); inside != nil {
			all = append(all, name+": {"+strings.Join(inside, ", ")+"}")
		}
	}
	return all
}

// unquoted makes words readable: only they may go without quotes anywhere.
func unquoted(s string) string {
	if word := strings.Trim(s, `"`); word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") == "" && len(word) > 0 {
		return word
	}
	return s
}

// defaults returns a keyhook.yaml that writes every default.
func defaults(t *testing.T, source string) string {
	t.Helper()
	return strings.Join(values(properties(t, source)), "\n") + "\n"
}

// flow returns the defaults for use behind other fields of a map in one line.
func flow(fields map[string]any) string {
	text := strings.Join(values(fields), ", ")
	if text == "" {
		return ""
	}
	return ", " + text
}
