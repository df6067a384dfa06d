package build

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// Docs are the comments of fields, by package path, type and field:
// "keyhook/rules.sinkEntry.Rate". A field of a struct without a name follows
// the field that has it: "keyhook/internal/config.file.Log.Level".
type Docs map[string]string

// ReadDocs reads the comments in the package at dir, whose path is pkg.
func ReadDocs(pkg, dir string) (Docs, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	docs := Docs{}
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				docs.fields(pkg+"."+spec.Name.Name, spec.Type)
			}
			return true
		})
	}
	return docs, nil
}

// fields adds those of a type, if it is a struct or made of one.
func (d Docs) fields(path string, t ast.Expr) {
	switch t := t.(type) {
	case *ast.StarExpr:
		d.fields(path, t.X)
	case *ast.ArrayType:
		d.fields(path, t.Elt)
	case *ast.StructType:
		for _, f := range t.Fields.List {
			text := f.Doc.Text()
			if text == "" {
				text = f.Comment.Text()
			}
			for _, name := range f.Names {
				at := path + "." + name.Name
				d[at] = strings.Join(strings.Fields(text), " ")
				d.fields(at, f.Type)
			}
		}
	}
}
