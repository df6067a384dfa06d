// Package docs holds the guides. Its tests run their examples.
package docs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"keyhook/internal/cli"
)

var (
	block = regexp.MustCompile("(?ms)^```yaml\n# (\\S+\\.yaml)\n(.*?)^```$")
	link  = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// guides returns the README and every page of the docs.
func guides(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, p := range append(paths, "../README.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts[p] = string(text)
	}
	return texts
}

// Each page's YAML files, put beside each other, are a configuration that
// `keyhook check` accepts.
func TestExamplesInTheGuidesPassCheck(t *testing.T) {
	setSecrets(t)
	checked := 0
	for page, text := range guides(t) {
		blocks := block.FindAllStringSubmatch(text, -1)
		if len(blocks) == 0 {
			continue
		}
		dir := materialize(t, text)
		config := filepath.Join(dir, "keyhook.yaml")
		if _, err := os.Stat(config); errors.Is(err, fs.ErrNotExist) { // the page is about rules only
			if err := os.WriteFile(config, []byte("rules: [rules/*.yaml]\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		code := cli.Run(cli.Process{
			Args: []string{"check", "-c", config}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		})
		if code != 0 {
			t.Errorf("%s: keyhook check ended with %d:\n%s", page, code, errs.String())
		}
		if s := out.String() + errs.String(); strings.Contains(s, "s3cret-value") || strings.Contains(s, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") {
			t.Errorf("%s: keyhook check prints a secret:\n%s", page, s)
		}
		checked++
	}
	if checked < 2 {
		t.Fatalf("only %d pages have examples", checked)
	}
}

// materialize puts the YAML files of a page into a new directory.
func materialize(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for _, b := range block.FindAllStringSubmatch(text, -1) {
		path := filepath.Join(dir, b[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b[2]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLinksLeadSomewhere(t *testing.T) {
	for page, text := range guides(t) {
		for _, l := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), l[1])); err != nil {
				t.Errorf("%s: a link leads nowhere: %s", page, l[1])
			}
		}
	}
}
