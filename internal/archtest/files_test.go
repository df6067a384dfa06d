package archtest

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a file may become before it is two files.
const maxLines = 500

func TestFilesStayShort(t *testing.T) {
	for _, pkg := range list(t, "", "keyhook/...") {
		for _, name := range slices.Concat(pkg.GoFiles, pkg.CgoFiles, pkg.IgnoredGoFiles) {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src := read(t, pkg, name)
			if n := bytes.Count(src, []byte("\n")); n > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d", pkg.ImportPath, name, n, maxLines)
			}
		}
	}
}

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, pkg := range list(t, "", "keyhook/...") {
		files := slices.Concat(pkg.GoFiles, pkg.CgoFiles)
		if len(files) == 0 { // a package of tests says it in one of them
			files = slices.Concat(pkg.TestGoFiles, pkg.XTestGoFiles)
		}
		if !slices.ContainsFunc(files, func(name string) bool { return documented(t, pkg, name) }) {
			t.Errorf("%s has no package comment", pkg.ImportPath)
		}
	}
}

func documented(t *testing.T, pkg goPackage, name string) bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, read(t, pkg, name), parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	text := f.Doc.Text()
	if f.Name.Name == "main" {
		return strings.HasPrefix(text, "Command ")
	}
	return strings.HasPrefix(text, "Package "+strings.TrimSuffix(f.Name.Name, "_test")+" ")
}

func read(t *testing.T, pkg goPackage, name string) []byte {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(pkg.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return src
}
