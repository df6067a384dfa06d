package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The matrix, and the table of watching, name the tests that hold their lines: each
// of them exists.
func TestTheCrashMatrixNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	watching, err := os.ReadFile("watching.md")
	if err != nil {
		t.Fatal(err)
	}
	page = append(page, watching...)
	named := regexp.MustCompile("`(Test[A-Z]\\w+|\\w+\\.txt)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Fatalf("the matrix names %d tests only", len(named))
	}
	known := make(map[string]bool)
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return fs.SkipDir
		case filepath.Base(filepath.Dir(path)) == "stories":
			known[entry.Name()] = true
		case strings.HasSuffix(path, "_test.go"):
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range test.FindAllStringSubmatch(string(source), -1) {
				known[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range named {
		if !known[m[1]] {
			t.Errorf("no test has the name %s", m[1])
		}
	}
}
