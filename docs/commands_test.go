package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyhook/checkpoint/disk"
	"keyhook/internal/cli"
	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

var (
	// commands finds the commands of a page, but for those that the gate runs.
	commands = regexp.MustCompile("(?ms)^(<!-- ci:\\w+ -->\n)?```sh\n(.*?)^```$")
	body     = regexp.MustCompile("(?ms)^```json\n(.*?)^```$")
)

// The commands of a page work one after the other, as somebody would run them
// who reads on, with a real etcd; and what the page says arrives, does.
func TestCommandsInTheGuidesWork(t *testing.T) {
	for page, want := range map[string]int{"../README.md": 3, "getting-started.md": 10} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			r := newReader(t, string(text))
			ran := 0
			for _, b := range commands.FindAllStringSubmatch(string(text), -1) {
				if b[1] != "" {
					continue
				}
				for line := range strings.Lines(b[2]) {
					command, _, _ := strings.Cut(line, "  #")
					r.run(words(strings.TrimSpace(command)))
					ran++
				}
			}
			if ran != want {
				t.Errorf("%d commands were run, not %d", ran, want)
			}
			if b := body.FindStringSubmatch(string(text)); b != nil {
				r.arrives(b[1])
			}
		})
	}
}

// reader is somebody who follows a page, in a directory with its files.
type reader struct {
	t       *testing.T
	dir     string
	etcd    *etcdtest.Server
	box     *inbox.Server
	running bool
}

// newReader writes the files of a page, with servers of the test in place of
// those that the page supposes.
func newReader(t *testing.T, text string) *reader {
	t.Helper()
	setSecrets(t)
	r := &reader{t: t, dir: materialize(t, text), etcd: etcdtest.Start(t), box: inboxtest.Start(t, inbox.Config{})}
	servers := strings.NewReplacer("http://127.0.0.1:2379", r.etcd.Endpoints()[0], "http://127.0.0.1:9000", r.box.URL())
	for _, b := range block.FindAllStringSubmatch(text, -1) {
		content := servers.Replace(b[2])
		if b[1] == "keyhook.yaml" {
			content += "admin: {listen: '127.0.0.1:0'}\n"
		}
		if err := os.WriteFile(filepath.Join(r.dir, b[1]), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// words splits a command line as a shell does that knows nothing but ' quotes.
func words(line string) (all []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
			continue
		}
		all = append(all, strings.Fields(part)...)
	}
	return all
}

func (r *reader) run(args []string) {
	r.t.Helper()
	switch name := strings.TrimPrefix(args[0], "./"); {
	case name == "go" && args[1] == "build":
		r.build(args)
	case name == "keyhook" && args[1] == "run":
		r.start(args[1:])
	case name == "keyhook":
		r.t.Chdir(r.dir)
		var out said
		if code := cli.Run(cli.Process{Args: args[1:], Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out}); code != 0 {
			r.t.Errorf("%q ended with %d:\n%s", args, code, &out)
		}
	case name == "curl":
		r.get(args[len(args)-1])
	case name == "etcdctl" && args[1] == "put":
		if _, err := r.etcd.Client().Put(r.t.Context(), args[2], args[3]); err != nil {
			r.t.Fatal(err)
		}
	default:
		r.t.Errorf("this test does not know how to run %q", args)
	}
}

// build builds keyhook, once for all pages, and not where it would lie in the
// way.
func (r *reader) build(args []string) {
	r.t.Helper()
	if got, want := strings.Join(args, " "), "go build -o keyhook ./cmd/keyhook"; got != want {
		r.t.Errorf("%q, not %q", got, want)
	}
	if err := built(); err != nil {
		r.t.Fatal(err)
	}
}

var built = sync.OnceValue(func() (err error) {
	dir, err := os.MkdirTemp("", "keyhook-docs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	program := filepath.Join(dir, "keyhook")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/keyhook")
	build.Dir = checkout
	for _, cmd := range []*exec.Cmd{build, exec.CommandContext(ctx, program, "version")} {
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd, err, text)
		}
	}
	return nil
})

var checkout = func() string {
	dir, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// said collects what keyhook says.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *said) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *said) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs keyhook until the end of the page, and waits until it is ready.
func (r *reader) start(args []string) {
	r.t.Helper()
	r.t.Chdir(r.dir)
	var out said
	stop, ended := make(chan os.Signal, 1), make(chan int, 1)
	go func() {
		ended <- cli.Run(cli.Process{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Stop: stop})
	}()
	r.t.Cleanup(func() {
		stop <- syscall.SIGTERM
		if code := <-ended; code != 0 {
			r.t.Errorf("keyhook %q ended with %d:\n%s", args, code, &out)
		}
	})
	r.running = true
	r.eventually("keyhook is ready", func() error {
		status, text, err := r.fetch("/readyz")
		if err == nil && status != http.StatusOK {
			err = errors.New(text)
		}
		return err
	})
}

// fetch asks the running keyhook, wherever it listens.
func (r *reader) fetch(path string) (int, string, error) {
	instance, err := disk.ReadInstance(filepath.Join(r.dir, "keyhook-data"))
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+instance.Address+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (r *reader) get(url string) {
	r.t.Helper()
	path, found := strings.CutPrefix(url, "http://127.0.0.1:8585")
	if !found || !r.running {
		r.t.Errorf("nobody answers at %s", url)
		return
	}
	if status, text, err := r.fetch(path); err != nil || status != http.StatusOK || text == "" {
		r.t.Errorf("%s answers %d %q, %v", url, status, text, err)
	}
}

// arrives waits for the one message of the page.
func (r *reader) arrives(want string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.box.Await(ctx, func(c inbox.Counts) bool { return c.Delivered > 0 }); err != nil {
		r.t.Fatal(err)
	}
	requests := r.box.Requests()
	var got, expected any
	if err := errors.Join(json.Unmarshal(requests[0].Body, &got), json.Unmarshal([]byte(want), &expected)); err != nil {
		r.t.Fatal(err)
	}
	if len(requests) != 1 || !reflect.DeepEqual(got, expected) || requests[0].ID == "" {
		r.t.Errorf("%d requests, the first %s", len(requests), requests[0].Body)
	}
}

// eventually waits until done has no error.
func (r *reader) eventually(what string, done func() error) {
	r.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for {
		err := done()
		if err == nil {
			return
		}
		select {
		case <-look.C:
		case <-over:
			r.t.Fatalf("not within %s: %s: %v", patience, what, err)
		}
	}
}
