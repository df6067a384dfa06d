package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyhook/internal/cli"
	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
)

// guide plays a page: its files, what the receiver is said to do, and its
// commands, in the order in which they stand there.
type guide struct {
	t    *testing.T
	dir  string
	etcd *etcdtest.Server
	box  *inbox.Server
	log  *lockedBuffer
	ids  map[string]string // of the page, in this run
}

const guidePatience = 30 * time.Second

var (
	// step is a file, a word about the receiver, or commands.
	step     = regexp.MustCompile("(?ms)^```yaml\n# (\\S+\\.yaml)\n(.*?)^```$|^<!-- (the receiver .*?) -->$|^```console\n(.*?)^```$")
	idOf     = regexp.MustCompile(`\b\d+-[0-9a-f]{32}\b`)
	putOf    = regexp.MustCompile(`^etcdctl put (\S+) '(.*)'$`)
	passing  = regexp.MustCompile(`\b(now|due|\d+ (second|minute)s? (ago|from now))\b`)
	dateOf   = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	tries    = regexp.MustCompile(`(/orders/\S+ \d+) \d+ (\d+ B TIME HTTP 503)`) // of what is owed
	breaking = regexp.MustCompile(`; breaker (open, next try TIME|open|half-open)`)
)

// The commands of the guide for operators print what it says.
func TestTheGuideForOperators(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "off") // what suits a process of its own is not for this one
	t.Setenv("GOMAXPROCS", fmt.Sprint(runtime.GOMAXPROCS(0)))
	page, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	g := newGuide(t)
	t.Chdir(g.dir) // as somebody who follows the page
	commands := 0
	started := false
	for _, m := range step.FindAllStringSubmatch(string(page), -1) {
		switch {
		case m[1] != "":
			g.write(m[1], m[2])
			if started {
				g.await("the rules are reloaded", func() bool { return strings.Contains(g.log.String(), "rules reloaded") })
			}
		case m[3] != "":
			g.receiver(m[3])
		default:
			if !started {
				g.start()
				started = true
			}
			commands += g.play(m[4])
		}
	}
	if commands < 10 {
		t.Errorf("only %d commands were run", commands)
	}
	g.await("the orders have arrived", func() bool { return g.delivered() == `1041:120 1042:-5 1043:70` })
}

func newGuide(t *testing.T) *guide {
	t.Helper()
	g := &guide{
		t: t, dir: t.TempDir(), etcd: etcdtest.Start(t), box: inboxtest.Start(t, inbox.Config{}),
		log: &lockedBuffer{}, ids: make(map[string]string),
	}
	return g
}

// write puts a file of the page in place, with the addresses of this run.
func (g *guide) write(name, text string) {
	g.t.Helper()
	text = strings.NewReplacer("http://127.0.0.1:2379", g.etcd.Endpoints()[0], "https://billing.example.com", g.box.URL()).Replace(text)
	if name == "keyhook.yaml" {
		text += "admin: {listen: '127.0.0.1:0'}\n"
	}
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		g.t.Fatal(err)
	}
}

// delivered returns the orders that the receiver has taken, with their totals,
// sorted.
func (g *guide) delivered() string {
	var all []string
	for _, r := range g.box.Requests() {
		var order struct {
			Order string
			Total int
		}
		if err := json.Unmarshal(r.Body, &order); err != nil {
			g.t.Fatal(err)
		}
		if r.Acknowledged() {
			all = append(all, fmt.Sprintf("%s:%d", order.Order, order.Total))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (g *guide) receiver(what string) {
	g.t.Helper()
	switch what {
	case "the receiver answers 503":
		g.box.SetReply(func(inbox.Request) inbox.Reply { return inbox.Reply{Status: http.StatusServiceUnavailable} })
	case "the receiver answers 200":
		g.box.SetReply(nil)
	case "the receiver refuses totals below 0":
		g.box.SetReply(func(r inbox.Request) inbox.Reply {
			if bytes.Contains(r.Body, []byte(`:-`)) {
				return inbox.Reply{Status: http.StatusUnprocessableEntity, Body: "a total below 0"}
			}
			return inbox.Reply{}
		})
	default:
		g.t.Fatalf("%s: nobody knows how", what)
	}
}

// start runs keyhook until the test ends.
func (g *guide) start() {
	g.t.Helper()
	stop, ended := make(chan os.Signal, 1), make(chan int, 1)
	go func() {
		ended <- cli.Run(cli.Process{Args: []string{"run"}, Stdout: g.log, Stderr: g.log, Stop: stop})
	}()
	g.t.Cleanup(func() {
		stop <- os.Interrupt
		if code := <-ended; code != 0 {
			g.t.Errorf("it ended with %d:\n%s", code, g.log)
		}
	})
	g.await("it is ready", func() bool { return strings.Contains(g.log.String(), "msg=\"ready") })
}

// play runs the commands of a block and returns how many there were.
func (g *guide) play(block string) (n int) {
	g.t.Helper()
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, want, _ := strings.Cut(strings.TrimSuffix(part, "\n"), "\n")
		n++
		if put := putOf.FindStringSubmatch(command); put != nil {
			if _, err := g.etcd.Client().Put(g.t.Context(), put[1], put[2]); err != nil {
				g.t.Fatal(err)
			}
			continue
		}
		args, ok := strings.CutPrefix(command, "keyhook ")
		if !ok {
			g.t.Fatalf("nobody knows how to run %q", command)
		}
		g.command(args, want)
	}
	return n
}

// command runs a command. One that only looks is run until it shows what the page
// says: things take a moment.
func (g *guide) command(args, want string) {
	g.t.Helper()
	looks := strings.Contains(args, "list") || strings.Contains(args, "show") || strings.Contains(args, "--dry-run")
	if strings.HasPrefix(args, "sink pause") { // once all have been tried
		g.await("all were tried", func() bool { return strings.Count(g.run("owed list"), "503") == 3 })
	}
	for from, to := range g.ids {
		args = strings.ReplaceAll(args, from, to)
	}
	var got string
	show := func() bool {
		got = strings.TrimSuffix(g.run(args), "\n")
		return shape(got) == shape(want)
	}
	if !show() && looks {
		g.try(show)
	}
	if shape(got) != shape(want) {
		g.t.Fatalf("keyhook %s prints\n%s\nthe page says\n%s", args, got, want)
	}
	actual := idOf.FindAllString(got, -1)
	for i, id := range idOf.FindAllString(want, -1) {
		g.ids[id] = actual[i]
	}
}

// shape is what an output has in common with that of another run.
func shape(s string) string {
	s = passing.ReplaceAllString(s, "TIME")
	s = breaking.ReplaceAllString(s, "") // it may be tried at this moment
	s = dateOf.ReplaceAllString(s, "DATE")
	s = idOf.ReplaceAllString(s, "ID")
	s = strings.Join(strings.Fields(s), " ")
	return tries.ReplaceAllString(s, "$1 N $2")
}

func (g *guide) run(args string) string {
	g.t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(cli.Process{Args: strings.Fields(args), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	if code != 0 {
		g.t.Fatalf("keyhook %s ended with %d:\n%s%s", args, code, &out, &errs)
	}
	return out.String()
}

func (g *guide) await(what string, done func() bool) {
	g.t.Helper()
	if !g.try(done) {
		g.t.Fatalf("not within %s: %s\n%s", guidePatience, what, g.log)
	}
}

func (g *guide) try(done func() bool) bool {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	over := time.After(guidePatience)
	for !done() {
		select {
		case <-look.C:
		case <-over:
			return false
		}
	}
	return true
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
