package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook/checkpoint/disk"
	"keyhook/internal/cli"
	"keyhook/internal/etcdtest"
	"keyhook/internal/inbox"
)

// shop is a configuration with two sinks whose receivers can be told what to
// answer, and an etcd.
type shop struct {
	t      *testing.T
	config string
	etcd   *etcdtest.Server
	box    *inbox.Server

	stop  chan os.Signal
	ended chan int
	log   *syncBuffer
}

// shopRules send the text of a JSON value to the sink "box", which refuses what
// is bad for good, and everything under /b/ to the sink "down".
const shopRules = `
sinks:
  - name: box
    webhook: {url: "%[1]s/box"}
    retry: {initial: 10ms, max: 20ms, jitter: 0}
  - name: down
    webhook: {url: "%[1]s/down"}
    retry: {initial: 10ms, max: 20ms, jitter: 0}
    breaker: off
rules:
  - name: text
    keys: /a/{x...}
    send: {sink: box, headers: {X-Of: params.x}, body: '%[2]s'}
  - name: down
    keys: /b/{x...}
    send: {sink: down, body: event.value}
`

func newShop(t *testing.T) *shop {
	t.Helper()
	// What suits a process of its own is not for this one.
	t.Setenv("GOMEMLIMIT", "off")
	t.Setenv("GOMAXPROCS", fmt.Sprint(runtime.GOMAXPROCS(0)))
	s := &shop{t: t}
	s.config, s.etcd, s.box = site(t)
	s.rules("event.json.text")
	s.box.SetReply(func(r inbox.Request) inbox.Reply {
		switch {
		case r.Path == "/down":
			return inbox.Reply{Status: http.StatusServiceUnavailable}
		case bytes.Contains(r.Body, []byte("bad")):
			return inbox.Reply{Status: http.StatusBadRequest, Body: "no, \x1b[31mred\x1b[0m"}
		}
		return inbox.Reply{}
	})
	return s
}

// rules writes the rules with the body of the rule "text".
func (s *shop) rules(body string) {
	s.t.Helper()
	path := filepath.Join(filepath.Dir(s.config), "rules", "a.yaml")
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, shopRules, s.box.URL(), body), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) dir() string { return filepath.Join(filepath.Dir(s.config), "keyhook-data") }

func (s *shop) put(key, value string) {
	s.t.Helper()
	if _, err := s.etcd.Client().Put(s.t.Context(), key, value); err != nil {
		s.t.Fatal(err)
	}
}

// start runs keyhook in this process until close is called or the test ends.
func (s *shop) start() {
	s.t.Helper()
	s.stop, s.ended, s.log = make(chan os.Signal, 2), make(chan int, 1), newSyncBuffer()
	go func() {
		s.ended <- cli.Run(cli.Process{Args: []string{"run", "-c", s.config}, Stdout: io.Discard, Stderr: s.log, Stop: s.stop})
	}()
	s.t.Cleanup(s.close)
	s.eventually("it is ready", func() bool { return strings.Contains(s.log.String(), "msg=\"ready") })
}

func (s *shop) close() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop <- os.Interrupt
	if code := <-s.ended; code != 0 {
		s.t.Errorf("it ended with %d:\n%s", code, s.log)
	}
	s.stop = nil
}

func (s *shop) eventually(what string, done func() bool) {
	s.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	over := time.After(patience)
	for !done() {
		select {
		case <-look.C:
		case <-over:
			s.t.Fatalf("not within %s: %s\n%s", patience, what, s.log)
		}
	}
}

// run runs a command and expects it to end with a code.
func (s *shop) run(want int, args ...string) (stdout, stderr string) {
	s.t.Helper()
	code, stdout, stderr := keyhook(append(args, "-c", s.config)...)
	if code != want {
		s.t.Fatalf("%q ended with %d, not %d\nstdout: %s\nstderr: %s", args, code, want, stdout, stderr)
	}
	return stdout, stderr
}

// list returns what a command that lists prints for programs.
func (s *shop) list(args ...string) (items []map[string]any) {
	s.t.Helper()
	stdout, _ := s.run(0, append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(stdout), &items); err != nil {
		s.t.Fatalf("%v: %s", err, stdout)
	}
	return items
}

// letters returns the errors of the dead letters by their keys.
func (s *shop) letters(args ...string) map[string]string {
	s.t.Helper()
	found := make(map[string]string)
	for _, l := range s.list(append([]string{"deadletter", "list"}, args...)...) {
		found[fmt.Sprint(l["key"])] = fmt.Sprint(l["reason"])
	}
	return found
}

func (s *shop) awaitLetters(want map[string]string) {
	s.t.Helper()
	s.eventually(fmt.Sprint("the dead letters are ", want), func() bool { return fmt.Sprint(s.letters()) == fmt.Sprint(want) })
}

// delivered returns the bodies that a path of the receiver has accepted.
func (s *shop) delivered(path string) (bodies []string) {
	for _, r := range s.box.Requests() {
		if r.Path == path && r.Acknowledged() {
			bodies = append(bodies, string(r.Body))
		}
	}
	return bodies
}

// both runs a story twice: through the process that runs, and on the directory
// after it has stopped.
func both(t *testing.T, story func(t *testing.T, s *shop, arrange func(fn func()))) {
	t.Run("a process runs", func(t *testing.T) {
		s := newShop(t)
		s.start()
		story(t, s, func(fn func()) { fn() })
	})
	t.Run("none runs", func(t *testing.T) {
		s := newShop(t)
		story(t, s, func(fn func()) {
			s.start()
			fn()
			s.close()
		})
	})
}

// arrangeLetters makes /a/1 refused and /a/2 impossible to render.
func arrangeLetters(s *shop) {
	s.t.Helper()
	s.put("/a/1", `{"text": "bad"}`)
	s.awaitLetters(map[string]string{"/a/1": "rejected"})
	s.put("/a/2", `{}`)
	s.awaitLetters(map[string]string{"/a/1": "rejected", "/a/2": "render"})
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	both(t, func(t *testing.T, s *shop, arrange func(func())) {
		arrange(func() { arrangeLetters(s) })

		items := s.list("deadletter", "list")
		if len(items) != 2 {
			t.Fatalf("got %v", items)
		}
		first := items[0]
		for _, name := range []string{"id", "rule", "send", "sink", "key", "revision", "attempts", "reason", "error", "failed_at"} {
			if _, ok := first[name]; !ok {
				t.Errorf("there is no %s in %v", name, first)
			}
		}
		if first["rule"] != "text" || first["send"] != "box" || first["sink"] != "box" || first["key"] != "/a/1" || first["attempts"] != 1.0 || first["reason"] != "rejected" {
			t.Errorf("got %v", first)
		}
		for _, filter := range [][]string{
			{"--reason", "render"}, {"--key-prefix", "/a/2"}, {"--min-revision", fmt.Sprint(items[1]["revision"])},
			{"--error", "no such key"}, {"--rule", "text", "--sink", "box", "--send", "box", "--reason", "render", "--since", "1h"},
		} {
			if got := s.letters(filter...); fmt.Sprint(got) != "map[/a/2:render]" {
				t.Errorf("%v: got %v", filter, got)
			}
		}
		for _, filter := range [][]string{{"--rule", "other"}, {"--until", "1h"}, {"--max-revision", "1"}} {
			if stdout, _ := s.run(0, append([]string{"deadletter", "list", "-o", "json"}, filter...)...); stdout != "[]\n" {
				t.Errorf("%v: got %s", filter, stdout)
			}
		}
		if got := s.letters("--limit", "1"); fmt.Sprint(got) != "map[/a/1:rejected]" {
			t.Errorf("got %v", got)
		}

		text, _ := s.run(0, "deadletter", "list")
		if lines := strings.Split(text, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "FAILED ") || !strings.Contains(lines[1], " /a/1 ") || strings.Contains(text, "\x1b") {
			t.Errorf("got %q", text)
		}
		id := fmt.Sprint(first["id"])
		text, _ = s.run(0, "deadletter", "show", id)
		for _, part := range []string{"id " + id, "reason rejected", "event PUT, received", `value {"text": "bad"}`, "message text/plain; charset=utf-8", "X-Of 1", "body bad"} {
			if !strings.Contains(strings.Join(strings.Fields(text), " "), part) {
				t.Errorf("no %q in\n%s", part, text)
			}
		}
		stdout, _ := s.run(0, "deadletter", "show", id, "-o", "json")
		var story struct {
			ID      string
			Event   struct{ Key, Value, Type string }
			Message struct{ Body string }
		}
		if err := json.Unmarshal([]byte(stdout), &story); err != nil || story.ID != id || story.Event.Value != `{"text": "bad"}` || story.Event.Type != "PUT" || story.Message.Body != "bad" {
			t.Errorf("%v: %s", err, stdout)
		}
		if _, stderr := s.run(1, "deadletter", "show", "7-x"); !strings.Contains(stderr, "no dead letter has this id") {
			t.Errorf("got %s", stderr)
		}
		text, _ = s.run(0, "deadletter", "show", fmt.Sprint(items[1]["id"]))
		if !strings.Contains(text, "none: it could not be rendered") {
			t.Errorf("got\n%s", text)
		}
	})
}

func TestDeadLettersAreSentAgain(t *testing.T) {
	both(t, func(t *testing.T, s *shop, arrange func(func())) {
		arrange(func() { arrangeLetters(s) })
		s.box.SetReply(nil) // the receiver has been mended
		items := s.list("deadletter", "list")
		stdout, stderr := s.run(1, "deadletter", "replay", fmt.Sprint(items[0]["id"]), "7-unknown")
		if !strings.Contains(stdout, "1 dead letter requeued") || !strings.Contains(stderr, "there is no dead letter 7-unknown") {
			t.Errorf("stdout %s, stderr %s", stdout, stderr)
		}
		stdout, stderr = s.run(1, "deadletter", "replay", "--all")
		if !strings.Contains(stdout, "0 dead letters requeued") || !strings.Contains(stderr, "stays: ") || !strings.Contains(stderr, "no such key: text") {
			t.Errorf("stdout %s, stderr %s", stdout, stderr)
		}
		s.rules(`"now: " + event.value`) // and so has the rule
		if s.stop != nil {
			s.eventually("the rules are reloaded", func() bool { return strings.Contains(s.log.String(), "rules reloaded") })
		}
		stdout, _ = s.run(0, "deadletter", "replay", "--all", "--output", "json")
		var result struct {
			Matched, Requeued int
			Complete          bool
		}
		if err := json.Unmarshal([]byte(stdout), &result); err != nil || result.Matched != 1 || result.Requeued != 1 || !result.Complete {
			t.Errorf("%v: %s", err, stdout)
		}
		if s.stop == nil {
			if owed := s.list("owed", "list"); len(owed) != 2 {
				t.Errorf("owed are %v", owed)
			}
			s.start()
		}
		s.eventually("both are delivered", func() bool {
			got := s.delivered("/box")
			slices.Sort(got)
			return fmt.Sprintf("%q", got) == `["bad" "now: {}"]`
		})
		s.eventually("nothing is owed", func() bool { return len(s.list("owed", "list")) == 0 })
		if left := s.letters(); len(left) != 0 {
			t.Errorf("left are %v", left)
		}
	})
}

func TestRenderTakesTheRulesOfToday(t *testing.T) {
	both(t, func(t *testing.T, s *shop, arrange func(func())) {
		arrange(func() { arrangeLetters(s) })
		s.rules(`"now: " + event.value`)
		if s.stop != nil {
			s.eventually("the rules are reloaded", func() bool { return strings.Contains(s.log.String(), "rules reloaded") })
		}
		s.box.SetReply(nil)
		if stdout, _ := s.run(0, "deadletter", "replay", "--render", "--all", "--dry-run"); !strings.Contains(stdout, "2 dead letters would be requeued") {
			t.Errorf("got %s", stdout)
		}
		if got := s.letters(); len(got) != 2 {
			t.Errorf("a dry run left %v", got)
		}
		s.run(0, "deadletter", "replay", "--render", "--sink", "box")
		if s.stop == nil {
			s.start()
		}
		s.eventually("both are delivered", func() bool {
			got := s.delivered("/box")
			slices.Sort(got)
			return fmt.Sprintf("%q", got) == `["now: {\"text\": \"bad\"}" "now: {}"]`
		})
	})
}

func TestAStormIsStopped(t *testing.T) {
	both(t, func(t *testing.T, s *shop, arrange func(func())) {
		arrange(func() {
			for i := range 30 {
				s.put(fmt.Sprintf("/b/%d", i), "x")
			}
			s.eventually("they are owed, and were tried", func() bool { return len(s.list("owed", "list", "--error", "503")) == 30 })
			s.run(0, "sink", "pause", "down")
		})
		if sinks := s.list("sink", "list"); len(sinks) == 0 || !slices.ContainsFunc(sinks, func(k map[string]any) bool {
			return k["name"] == "down" && k["paused"] == true && k["owed"] == 30.0
		}) {
			t.Errorf("got %v", sinks)
		}
		if text, _ := s.run(0, "sink", "list"); !strings.Contains(text, "paused") {
			t.Errorf("got %s", text)
		}
		text, _ := s.run(0, "owed", "list", "--limit", "2")
		if strings.Count(text, "\n") != 3 || !strings.Contains(text, "503") {
			t.Errorf("got %s", text)
		}
		if _, stderr := s.run(2, "owed", "purge"); !strings.Contains(stderr, "nothing is selected") || !strings.Contains(stderr, "say --all") {
			t.Errorf("got %s", stderr)
		}
		if stdout, _ := s.run(0, "owed", "purge", "--sink", "down", "--key-prefix", "/b/1", "--dry-run"); !strings.Contains(stdout, "11 owed deliveries would be purged") {
			t.Errorf("got %s", stdout)
		}
		if stdout, _ := s.run(0, "owed", "purge", "--sink", "down", "--limit", "5"); !strings.Contains(stdout, "5 owed deliveries purged") {
			t.Errorf("got %s", stdout)
		}
		if stdout, _ := s.run(0, "owed", "purge", "--all"); !strings.Contains(stdout, "25 owed deliveries purged") {
			t.Errorf("got %s", stdout)
		}
		stdout, stderr := s.run(1, "sink", "resume", "nobody", "down")
		if !strings.Contains(stdout, "down is resumed\n") || !strings.Contains(stderr, `there is no such sink: "nobody"`) {
			t.Errorf("stdout %s, stderr %s", stdout, stderr)
		}
		if s.stop == nil {
			s.start()
		}
		s.box.SetReply(nil)
		s.put("/b/new", "after")
		s.eventually("what is new is delivered", func() bool { return fmt.Sprint(s.delivered("/down")) == "[after]" })
	})
}

// The page, the metrics and the commands agree on what is paused and owed.
func TestAPauseShowsEverywhere(t *testing.T) {
	s := newShop(t)
	s.start()
	s.run(0, "sink", "pause", "down")
	s.put("/b/1", "x")
	s.eventually("it is owed", func() bool { return len(s.list("owed", "list", "--sink", "down")) == 1 })
	in, err := disk.ReadInstance(s.dir())
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Sinks []struct {
			Name   string
			Owed   int
			Paused bool
		}
	}
	if err := json.Unmarshal([]byte(get(t, "http://"+in.Address+"/api/v1/status")), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Sinks) != 2 || page.Sinks[1].Name != "down" || !page.Sinks[1].Paused || page.Sinks[1].Owed != 1 {
		t.Errorf("the page has %+v", page.Sinks)
	}
	if metrics := get(t, "http://"+in.Address+"/metrics"); !strings.Contains(metrics, `keyhook_owed{sink="down"} 1`) {
		t.Errorf("the metrics do not say that it is owed:\n%s", metrics)
	}
	// A pause is kept over a restart.
	s.close()
	s.start()
	if sinks := s.list("sink", "list"); sinks[1]["paused"] != true {
		t.Errorf("got %v", sinks)
	}
	if n := len(s.delivered("/down")); n != 0 {
		t.Errorf("%d were delivered", n)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// syncBuffer is written by one goroutine and read by another.
type syncBuffer struct {
	lock chan struct{}
	text bytes.Buffer
}

func newSyncBuffer() *syncBuffer { return &syncBuffer{lock: make(chan struct{}, 1)} }

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.lock <- struct{}{}
	defer func() { <-b.lock }()
	return b.text.String()
}
