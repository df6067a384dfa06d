package cli_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"keyhook/checkpoint/disk"
	"keyhook/internal/cli"
	"keyhook/internal/inbox"
)

func TestWrongUsageOfTheBacklogCommands(t *testing.T) {
	dir := write(t, map[string]string{"keyhook.yaml": goodConfig, "rules/one.yaml": goodRules})
	config := filepath.Join(dir, "keyhook.yaml")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no command":          {[]string{"deadletter"}, "keyhook: keyhook deadletter needs a command"},
		"an unknown one":      {[]string{"deadletter", "lits"}, "unknown command \"lits\"\n    did you mean \"list\"?"},
		"nothing selected":    {[]string{"deadletter", "replay"}, "keyhook deadletter replay: nothing is selected\n    name ids, or select with flags such as --sink or --since, or say --all"},
		"a limit alone":       {[]string{"deadletter", "purge", "--limit", "3"}, "nothing is selected"},
		"ids and a filter":    {[]string{"deadletter", "purge", "1-a", "--sink", "x"}, "both ids and a filter are given"},
		"ids and all":         {[]string{"owed", "purge", "1-a", "--all"}, "both ids and all are given"},
		"an unknown reason":   {[]string{"deadletter", "list", "--reason", "rendr"}, "there is no reason \"rendr\"\n    did you mean \"render\"?"},
		"a reason of owed":    {[]string{"owed", "list", "--reason", "render"}, "unknown flag: --reason"},
		"no time":             {[]string{"owed", "list", "--since", "2"}, "--since: \"2\" is neither a time nor how long ago it was\n    write a time such as"},
		"nothing between":     {[]string{"deadletter", "list", "--since", "1h", "--until", "2h"}, "no time lies between"},
		"a negative limit":    {[]string{"deadletter", "list", "--limit", "-1"}, "--limit must not be negative"},
		"no rate":             {[]string{"deadletter", "replay", "--all", "--rate", "5"}, "is not a rate"},
		"no id":               {[]string{"deadletter", "show"}, "takes one id\n    `keyhook deadletter list` shows the ids"},
		"an argument to list": {[]string{"owed", "list", "1-a"}, "takes no arguments"},
		"no sink":             {[]string{"sink", "pause"}, "needs the name of a sink\n    `keyhook sink list` shows the names"},
		"a broken file":       {[]string{"sink", "list", "-c", filepath.Join(dir, "rules", "one.yaml")}, "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			if !slices.Contains(tt.args, "-c") && len(tt.args) > 1 && tt.args[1] != "lits" {
				tt.args = append(tt.args, "-c", config)
			}
			code, stdout, stderr := keyhook(tt.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr\n%s\nwant\n%s", code, stdout, stderr, tt.want)
			}
		})
	}
	// A mistake in the file before anything is looked for; without one, there is
	// nothing to look at.
	code, _, stderr := keyhook("deadletter", "list", "-c", config)
	if code != 1 || !strings.Contains(stderr, "there is no data directory") || !strings.Contains(stderr, "-c FILE") {
		t.Errorf("code %d: %s", code, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "keyhook-data")); !os.IsNotExist(err) {
		t.Errorf("it has made a data directory: %v", err)
	}
}

// A process that holds the directory and cannot be asked is told of, with what to
// do about it; nothing is opened behind its back.
func TestAProcessThatCannotBeAsked(t *testing.T) {
	answer := ""
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if answer == "" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer other.Close()
	dir := write(t, map[string]string{"keyhook.yaml": goodConfig, "rules/one.yaml": goodRules})
	store, err := disk.Open(disk.Config{Dir: filepath.Join(dir, "keyhook-data")})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		address, answer string
		want            []string
	}{
		"it has not announced itself": {"-", "", []string{"is in use", "it has not said where it listens", "try again"}},
		"it is starting":              {"", "", []string{"is in use by pid 42", "it has not said where it listens", "try again"}},
		"nobody listens there":        {"127.0.0.1:1", "", []string{"is in use by pid 42", "connection refused", "look at its log"}},
		"another process does":        {other.Listener.Addr().String(), `{"instance": "other"}`, []string{"is another process"}},
		"it has another token":        {other.Listener.Addr().String(), "", []string{"asks for another token", "admin.token"}},
	} {
		t.Run(name, func(t *testing.T) {
			answer = tt.answer
			if tt.address != "-" {
				if err := store.Announce(disk.Instance{ID: "it", Address: tt.address, PID: 42}); err != nil {
					t.Fatal(err)
				}
			} else if err := os.RemoveAll(filepath.Join(dir, "keyhook-data", "instance.json")); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := keyhook("owed", "purge", "--all", "-c", filepath.Join(dir, "keyhook.yaml"))
			if code != 1 || stdout != "" {
				t.Errorf("code %d, stdout %s", code, stdout)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("no %q in\n%s", want, stderr)
				}
			}
		})
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// When it has gone, what it left behind misleads nobody.
	code, stdout, stderr := keyhook("owed", "list", "-c", filepath.Join(dir, "keyhook.yaml"))
	if code != 0 || stdout != "nothing is owed\n" {
		t.Errorf("code %d, %s%s", code, stdout, stderr)
	}
}

// arrangeMany makes n letters dead.
func arrangeMany(s *shop, n int) {
	s.t.Helper()
	for i := range n {
		s.put(fmt.Sprintf("/a/%d", i), fmt.Sprintf(`{"text": "bad %d"}`, i))
	}
	s.eventually("they are dead", func() bool { return len(s.letters()) == n })
}

func TestAPurgeOnATerminalWantsAYes(t *testing.T) {
	s := newShop(t)
	s.start()
	arrangeMany(s, 3)
	s.close()
	typed := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := cli.Run(cli.Process{Args: append(args, "-c", s.config), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, StdinTerminal: true})
		if code != want {
			t.Errorf("%q ended with %d:\n%s%s", args, code, &out, &errs)
		}
		return out.String(), errs.String()
	}
	stdout, stderr := typed(2, "deadletter", "purge", "--all")
	if !strings.Contains(stdout, "3 dead letters would be purged") || !strings.Contains(stderr, "nothing was removed\n    add --yes") || len(s.letters()) != 3 {
		t.Errorf("stdout %s, stderr %s", stdout, stderr)
	}
	one := fmt.Sprint(s.list("deadletter", "list")[0]["id"])
	if stdout, _ := typed(0, "deadletter", "purge", one); !strings.Contains(stdout, "1 dead letter purged") {
		t.Errorf("got %s", stdout)
	}
	if stdout, _ := typed(0, "deadletter", "purge", "--all", "--yes"); !strings.Contains(stdout, "2 dead letters purged") {
		t.Errorf("got %s", stdout)
	}
	if stdout, _ := typed(0, "deadletter", "list"); stdout != "no dead letters\n" {
		t.Errorf("got %s", stdout)
	}
}

// A replay that is interrupted has done what it says, and nothing else.
func TestAReplayThatIsInterrupted(t *testing.T) {
	s := newShop(t)
	s.start()
	const many = 12
	arrangeMany(s, many)
	s.box.SetReply(nil)
	errs, stop, ended := newSyncBuffer(), make(chan os.Signal, 1), make(chan int, 1)
	var out bytes.Buffer
	go func() {
		ended <- cli.Run(cli.Process{
			Args:  []string{"deadletter", "replay", "--all", "--rate", "1/h", "--output", "json", "-c", s.config},
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: errs, Stop: stop, StderrTerminal: true,
		})
	}()
	s.eventually("one is delivered", func() bool { return len(s.delivered("/box")) == 1 })
	stop <- os.Interrupt
	if code := <-ended; code != 1 {
		t.Errorf("it ended with %d", code)
	}
	s.eventually("nothing is owed", func() bool { return len(s.list("owed", "list")) == 0 })
	done, left := len(s.delivered("/box")), len(s.letters())
	if done != 1 || left != many-1 {
		t.Errorf("%d are delivered, %d are dead", done, left)
	}
	for _, want := range []string{"stopped by a signal (interrupt)", "1 dead letter requeued before; the rest is as it was", "dead letters "} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("no %q in %q", want, errs)
		}
	}
	if !strings.Contains(out.String(), `"requeued": 1`) || !strings.Contains(out.String(), `"complete": false`) {
		t.Errorf("got %s", out.String())
	}
	// Where nobody looks, nothing is drawn.
	if _, stderr := s.run(0, "deadletter", "replay", "--all", "--rate", "1000/s"); stderr != "" {
		t.Errorf("got %q", stderr)
	}
	s.eventually("all are delivered", func() bool { return len(s.delivered("/box")) == many })
}

// keyhook is killed while letters are replayed: each of them is delivered, owed
// or dead afterwards, and none is two of these.
func TestAKillDuringAReplay(t *testing.T) {
	s := newShop(t)
	s.start()
	const many = 60
	arrangeMany(s, many)
	s.close()

	p := spawn(t, "run", "-c", s.config)
	p.await("msg=\"ready")
	// The fifth that is on its way kills it: the replay is far from its end.
	blocked := make(chan struct{})
	var arrived atomic.Int32
	s.box.SetReply(func(inbox.Request) inbox.Reply {
		if arrived.Add(1) == 5 {
			_ = p.cmd.Process.Kill() // the exit code tells
		}
		return inbox.Reply{Until: blocked}
	})
	ended := make(chan int, 1)
	go func() {
		code, _, _ := keyhook("deadletter", "replay", "--all", "--rate", "20/s", "-c", s.config)
		ended <- code
	}()
	p.exit()
	if code := <-ended; code != 1 {
		t.Errorf("the replay ended with %d", code)
	}
	close(blocked)

	dead, owed := s.ids("deadletter", "list"), s.ids("owed", "list")
	for id := range owed {
		if dead[id] {
			t.Errorf("%s is owed and dead", id)
		}
	}
	if len(dead)+len(owed) != many || len(owed) < 5 { // nothing was acknowledged
		t.Errorf("%d are dead and %d owed, of %d", len(dead), len(owed), many)
	}
	s.box.SetReply(nil)
	s.start()
	s.eventually("what is owed is delivered", func() bool { return len(s.ids("owed", "list")) == 0 })
	got := map[string]int{}
	for _, r := range s.box.Requests() {
		if r.Acknowledged() {
			got[r.ID]++
		}
	}
	for id := range owed {
		if got[id] != 1 {
			t.Errorf("%s was delivered %d times", id, got[id])
		}
	}
	if left := s.ids("deadletter", "list"); len(left) != len(dead) {
		t.Errorf("%d are dead, %d were", len(left), len(dead))
	}
}

// ids returns the ids that a command lists.
func (s *shop) ids(args ...string) map[string]bool {
	s.t.Helper()
	found := make(map[string]bool)
	for _, item := range s.list(args...) {
		id := fmt.Sprint(item["id"])
		if found[id] {
			s.t.Errorf("%s is listed twice", id)
		}
		found[id] = true
	}
	return found
}
