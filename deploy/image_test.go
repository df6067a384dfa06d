package deploy_test

import (
	"context"
	"debug/elf"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// dockerStage is what deployfacts tells of a stage of the Dockerfile.
type dockerStage struct {
	Name   string
	Base   string
	Runs   []string
	Copies []struct {
		From    string
		Sources []string
		Dest    string
		Chown   string
	}
	Env         map[string]string
	User        string
	Workdir     string
	Volumes     []string
	Exposed     []string
	Entrypoint  []string
	Cmd         []string
	Healthcheck *struct {
		Test     []string
		Interval float64 `json:"interval_seconds"`
		Timeout  float64 `json:"timeout_seconds"`
	}
}

// image is the Dockerfile, read, and its binary, built as it says.
type image struct {
	build, final dockerStage
	uid, gid     int
	context      string // what the build stage has at /src
	out          string // what it has at /out
}

var theImage struct {
	sync.Once
	*image
}

// newImage returns the image, which is built once.
func newImage(t *testing.T) *image {
	t.Helper()
	theImage.Do(func() { theImage.image = buildImage(t) })
	if theImage.image == nil {
		t.Fatal("the image could not be built, as another test says")
	}
	return theImage.image
}

// buildImage follows the Dockerfile without Docker: it sends the build's
// context, and runs the build's commands with /out elsewhere.
func buildImage(t *testing.T) *image {
	t.Helper()
	var stages []dockerStage
	facts(t, nil, &stages, "dockerfile", "../Dockerfile")
	if len(stages) != 2 || stages[0].Name != "build" {
		t.Fatalf("the Dockerfile has other stages than expected: %+v", stages)
	}
	im := &image{build: stages[0], final: stages[1], context: filepath.Join(scratch, "src"), out: filepath.Join(scratch, "out")}
	user, group, _ := strings.Cut(im.final.User, ":")
	var err, err2 error
	im.uid, err = strconv.Atoi(user)
	im.gid, err2 = strconv.Atoi(group)
	if err := errors.Join(err, err2); err != nil {
		t.Fatalf("USER must be two numbers, which Kubernetes can tell from root: %v", err)
	}

	var files []string
	facts(t, nil, &files, "context", "..")
	for _, name := range files {
		write(t, filepath.Join(im.context, name), read(t, filepath.Join("..", name)))
	}
	mkdir(t, im.out)
	for _, command := range im.build.Runs {
		if !strings.Contains(command, "/out/") {
			continue // fills the cache of modules
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", "umask 022; "+strings.ReplaceAll(command, "/out/", im.out+"/"))
		cmd.Dir = im.context
		cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH, "VERSION=v0.0.0-image", "GOFLAGS=-buildvcs=false", "GOWORK=off")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("RUN %s: %v\n%s", command, err, said)
		}
	}
	return im
}

// container is a root directory with what the image holds.
type container struct {
	*image
	t    *testing.T
	root string
}

// container assembles the image, with authorities as its CA certificates.
func (im *image) container(t *testing.T, authorities string) *container {
	t.Helper()
	c := &container{image: im, t: t, root: t.TempDir()}
	if err := os.Chmod(c.root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, copied := range im.final.Copies {
		if copied.From != "build" || len(copied.Sources) != 1 {
			t.Fatalf("the image holds what the test does not know: %+v", copied)
		}
		source, dest := copied.Sources[0], filepath.Join(c.root, copied.Dest)
		if source == "/etc/ssl/certs/ca-certificates.crt" { // of Debian, which the build stage is
			write(t, dest, authorities)
			continue
		}
		if name, ok := strings.CutPrefix(source, im.build.Workdir+"/"); ok {
			source = filepath.Join(im.context, name)
		} else if name, ok := strings.CutPrefix(source, "/out/"); ok {
			source = filepath.Join(im.out, name)
		} else {
			t.Fatalf("nothing is known of %s in the build stage", source)
		}
		c.copy(source, dest, copied.Chown)
	}
	mkdir(t, filepath.Join(c.root, im.final.Workdir))
	return c
}

// copy copies a file, or a directory that is empty.
func (c *container) copy(source, dest, owner string) {
	c.t.Helper()
	info, err := os.Stat(source)
	if err != nil {
		c.t.Fatal(err)
	}
	switch {
	case !info.IsDir():
		write(c.t, dest, read(c.t, source))
		err = os.Chmod(dest, info.Mode().Perm())
	default:
		mkdir(c.t, filepath.Dir(dest))
		if err = os.Mkdir(dest, info.Mode().Perm()); err == nil {
			err = os.Chmod(dest, info.Mode().Perm())
		}
	}
	if err == nil && owner != "" {
		if owner != c.final.User {
			c.t.Fatalf("%s belongs to %s, and the image runs as %s", dest, owner, c.final.User)
		}
		err = c.own(dest)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// mount puts a file into the container, as a volume does.
func (c *container) mount(path, content string) {
	c.t.Helper()
	write(c.t, filepath.Join(c.root, path), content)
}

// command returns a command of the image, with args in place of its CMD.
func (c *container) command(ctx context.Context, args ...string) *exec.Cmd {
	c.t.Helper()
	return c.exec(ctx, append(slices.Clone(c.final.Entrypoint), args...)...)
}

// check runs `keyhook check` in the container.
func (c *container) check(config string) {
	c.t.Helper()
	if said, err := c.command(c.t.Context(), "check", "-c", config).CombinedOutput(); err != nil {
		c.t.Errorf("keyhook check in the container: %v\n%s", err, said)
	}
}

// files returns what lies in the container outside of its volumes.
func (c *container) files() []string {
	c.t.Helper()
	var files []string
	err := filepath.WalkDir(c.root, func(path string, _ fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, c.root)
		if slices.Contains(c.final.Volumes, name) {
			return fs.SkipDir
		}
		files = append(files, name)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return files
}

func TestTheImageIsWhatItShouldBe(t *testing.T) {
	im := newImage(t)
	if im.final.Base != "scratch" {
		t.Errorf("the base is %s, not empty", im.final.Base)
	}
	if im.uid == 0 || im.gid == 0 {
		t.Errorf("it runs as root: %s", im.final.User)
	}
	if h := im.final.Healthcheck; h == nil || len(h.Test) < 2 || h.Test[0] != "CMD" || !slices.Equal(h.Test[1:2], im.final.Entrypoint) || h.Timeout <= 5 {
		t.Errorf("the health check must be the binary's own, without a shell, and leave it its 5 s: %+v", h)
	}
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(im.build.Base, "golang:"), "-")
	if !strings.Contains(read(t, "../go.mod"), "\ngo "+goVersion) {
		t.Errorf("the image is built with Go %s, go.mod says otherwise", goVersion)
	}

	c := im.container(t, "")
	binary, err := elf.Open(filepath.Join(c.root, im.final.Entrypoint[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, p := range binary.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the binary is not static: it has a segment %s", p.Type)
		}
	}
	want := []string{
		"", "/LICENSE", "/etc", "/etc/keyhook", "/etc/ssl", "/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt",
		"/keyhook", "/var", "/var/lib",
	}
	if got := c.files(); !slices.Equal(got, want) {
		t.Errorf("the image holds\n%q, not\n%q", got, want)
	}
}
