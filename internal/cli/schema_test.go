package cli_test

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSchema(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		title string
	}{
		{[]string{"schema"}, "keyhook rules"},
		{[]string{"schema", "rules"}, "keyhook rules"},
		{[]string{"schema", "config"}, "keyhook.yaml"},
	} {
		code, out, errs := keyhook(tt.args...)
		var schema struct {
			Schema string `json:"$schema"`
			Title  string
		}
		if err := json.Unmarshal([]byte(out), &schema); err != nil || code != 0 || errs != "" {
			t.Fatalf("%v: exit code %d, %v, %q", tt.args, code, err, errs)
		}
		if schema.Title != tt.title || schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%v: %+v", tt.args, schema)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"schema", "rule"}, "there is no schema \"rule\"\n    did you mean \"rules\"?"},
		{[]string{"schema", "config", "rules"}, "takes one argument"},
	} {
		if code, out, errs := keyhook(tt.args...); code != 2 || out != "" || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: exit code %d, %q, %q", tt.args, code, out, errs)
		}
	}
}
