// Package deploy holds what runs keyhook: the image, compose.yaml, the units and
// manifests, the dashboard and the alerts. Its tests hold each of them to the
// binary as it is, by tools of its own ecosystem, which they build from the
// modules in tools into bin.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// scratch is a directory for what several tests use.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "keyhook-deploy"); err != nil {
		log.Fatal(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(scratch); err != nil {
			log.Fatal(err)
		}
		os.Exit(code)
	}))
}

// tool is a program that is pinned in a module of its own below tools.
type tool struct {
	module, pkg string
	tags        string
	built       func() (string, error)
}

var (
	deployfacts     = newTool(tool{module: "deployfacts", pkg: "."})
	kubectlValidate = newTool(tool{module: "kubectl-validate", pkg: "sigs.k8s.io/kubectl-validate"})
	// The tag leaves out how Prometheus finds its targets, which is most of it.
	promtool = newTool(tool{module: "promtool", pkg: "github.com/prometheus/prometheus/cmd/promtool", tags: "remove_all_sd"})
)

func newTool(t tool) *tool {
	t.built = sync.OnceValues(t.build)
	return &t
}

// build returns the path of the tool, which it builds unless it is up to date.
func (t *tool) build() (string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", t.module)
	cmd := exec.Command("go", "build", "-C", filepath.Join(root, "tools", t.module), "-tags", t.tags, "-o", path, t.pkg)
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(cmd.String() + ": " + err.Error() + "\n" + string(said))
	}
	return path, nil
}

// run runs the tool and returns what it says on both streams.
func (t *tool) run(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	path, err := t.built()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := exec.CommandContext(tb.Context(), path, args...).CombinedOutput()
	return string(out), err
}

// facts decodes what deployfacts tells.
func facts(t testing.TB, stdin any, into any, args ...string) {
	t.Helper()
	path, err := deployfacts.built()
	if err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(stdin)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("deployfacts %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// write writes a file that everybody may read, whatever this process' umask.
func write(t testing.TB, path, content string) {
	t.Helper()
	mkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

// mkdir makes a directory and those above it, which everybody may look into.
func mkdir(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	mkdir(t, filepath.Dir(path))
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
}
