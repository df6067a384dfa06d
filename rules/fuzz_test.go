package rules

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"keyhook/internal/strictyaml"
)

var errorLine = regexp.MustCompile(`^(f\.yaml:[0-9]+:[0-9]+: |    )[^\n]+$`)

// FuzzLoad: whatever is in a file, it loads, or each problem has its place; what
// loads can be evaluated, and loads again into the same set.
func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/load", "testdata/evaluate/conditions", "testdata/evaluate/messages"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(data), "\n----\n") {
			_, input, _ := strings.Cut(part, "\nload\n")
			f.Add([]byte(input))
			if _, input, ok := strings.Cut(part, "\nrule\n"); ok {
				f.Add([]byte("rules:\n- " + strings.ReplaceAll(input, "\n", "\n  ") + "\nsinks: [{name: hook, webhook: {url: 'http://a/'}}]"))
			}
		}
	}
	f.Add([]byte("rules: &a [*a]"))
	f.Add([]byte("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		opts := Options{Environment: testEnvironment}
		set, err := Load([]File{{Path: "f.yaml", Data: data}}, opts)
		if err != nil {
			var problems strictyaml.Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("an error of type %T: %v", err, err)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !errorLine.MatchString(line) {
					t.Fatalf("no place in %q", line)
				}
			}
			return
		}
		var res Result
		for _, key := range []string{"/a", "/service/demo/leader", "\xff", ""} {
			set.Evaluate(Source{Name: "/etcd/x"}, put(key, `{"a": 1}`), &res)
		}
		again, err := Load([]File{{Path: "f.yaml", Data: data}}, opts)
		if err != nil || describe(set) != describe(again) {
			t.Fatalf("the second time it was another set: %v", err)
		}
	})
}
