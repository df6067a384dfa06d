// Command generate writes the schemas and the reference of keyhook's files. It
// runs in internal/schema: go generate ./internal/schema.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"keyhook/internal/schema/build"
)

func main() {
	if err := generate(filepath.Join("..", "..")); err != nil {
		fmt.Fprintf(os.Stderr, "generate: %v\n", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	files, err := build.Files(root)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil { //nolint:gosec // to be committed
			return err
		}
	}
	return nil
}
