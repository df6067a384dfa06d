package docs_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"keyhook/internal/cli"
	"keyhook/internal/devserver"
)

// update writes what the commands print into the pages. What differs between two
// runs (times, ids, ports) then differs in all of them.
var update = flag.Bool("update", false, "write the real output into the pages")

// output finds a command and the block below it that shows what it prints:
//
//	<!-- output: keyhook dev --once -->
//	```text
//	...
//	```
//
// A command may follow an edit of a file of the page, by which it fails:
//
//	<!-- output: keyhook check | rules/a.yaml: event.json -> event.jsn -->
var output = regexp.MustCompile("(?ms)^<!-- output: keyhook ([^\n|]*?)(?: \\| (\\S+): (\\S+) -> (\\S+))? -->\n```text\n(.*?)^```$")

// What the groups of output are.
const (
	command = iota + 1
	file
	from
	to
	shown
)

// What the pages show as the output of a command is what it prints, but for
// times, ids, ports, and the order in which sinks answer. A line of three dots
// stands for lines that are left out.
func TestOutputInTheGuidesIsReal(t *testing.T) {
	if !devserver.Included {
		t.Fatal("the pages show `keyhook dev`, which this build leaves out")
	}
	setSecrets(t)
	examples, err := filepath.Glob("../examples/*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, page := range slices.Concat([]string{"../README.md"}, pages, examples) {
		page, err := filepath.Abs(page)
		if err != nil {
			t.Fatal(err)
		}
		held += holdPage(t, page)
	}
	if held < 10 && !t.Failed() {
		t.Errorf("only %d blocks are held", held)
	}
}

// holdPage holds every block of a page and returns how many there are. The
// commands run where the reader is: among the page's files, if it has some, or
// else in the checkout.
func holdPage(t *testing.T, page string) int {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	blocks := output.FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 {
		return 0
	}
	t.Run(filepath.Base(filepath.Dir(page))+"/"+filepath.Base(page), func(t *testing.T) {
		t.Chdir("..")
		if block.MatchString(text) {
			t.Chdir(materialize(t, text))
		}
		for _, b := range blocks {
			got := printed(t, b)
			if *update && !strings.Contains(b[shown], "\n...\n") {
				head := strings.TrimSuffix(b[0], b[shown]+"```")
				text = strings.Replace(text, b[0], head+story(got)+"```", 1)
				continue
			}
			holds(t, b[command], got, b[shown])
		}
		if *update {
			if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	return len(blocks)
}

// printed runs the command of a block and returns what it prints.
func printed(t *testing.T, b []string) string {
	t.Helper()
	want := 0
	if path := b[file]; path != "" {
		want = 2
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(before, []byte(b[from])) {
			t.Fatalf("%s has no %q", path, b[from])
		}
		if err := os.WriteFile(path, bytes.Replace(before, []byte(b[from]), []byte(b[to]), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Error(err)
			}
		}()
	}
	var out, errs said
	code := cli.Run(cli.Process{Args: strings.Fields(b[command]), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	switch {
	case want != 0 && code == 1: // a test that fails is no mistake in the file
		return out.String() + errs.String()
	case code != want:
		t.Fatalf("keyhook %s ended with %d, not %d:\n%s%s", b[command], code, want, &out, &errs)
	case want != 0:
		return errs.String()
	}
	return out.String()
}

// story leaves out the greeting, which is all ports and paths.
func story(out string) string {
	_, rest, found := strings.Cut(out, "/api/v1/status\n\n")
	if !found {
		return out
	}
	return rest
}

var changing = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\b(\d+)-[0-9a-f]{32}\b`), "$1-ID"},
	{regexp.MustCompile(`(?m)  [0-9.]+(µs|ms|s)$`), "  TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "WHEN"},
	{regexp.MustCompile(`(?m)"?[-T0-9:.]*…$`), "…"}, // a time that is cut off
	{regexp.MustCompile(`"lease":"[0-9a-f]+"`), `"lease":"LEASE"`},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`/tmp/keyhook-dev-\d+`), "/tmp/keyhook-dev-N"},
}

// steps returns what a command printed without what changes from run to run: a
// list of parts that are separated by empty lines, each with its deliveries in a
// fixed order.
func steps(out string) []string {
	for _, c := range changing {
		out = c.what.ReplaceAllString(out, c.with)
	}
	parts := strings.Split(strings.Trim(out, "\n"), "\n\n")
	for i, part := range parts {
		var lines []string // the lines of a delivery belong together
		for line := range strings.Lines(part) {
			if line = strings.TrimRight(line, "\n"); strings.HasPrefix(line, "        ") && len(lines) > 0 {
				lines[len(lines)-1] += "\n" + line
				continue
			}
			lines = append(lines, line)
		}
		head := min(2, len(lines)) // why, and the change
		slices.Sort(lines[head:])
		parts[i] = strings.Join(lines, "\n")
	}
	return parts
}

// holds reports where a page shows something else than a command printed.
func holds(t *testing.T, command, got, shown string) {
	t.Helper()
	printed, at := steps(got), 0
	all := strings.Join(printed, "\n\n")
	gap := !strings.Contains(shown, "keyhook dev:") // the greeting is left out
	for _, part := range steps(shown) {
		if part == "..." {
			gap = true
			continue
		}
		for at < len(printed) && gap && !same(printed[at], part) {
			at++
		}
		if at == len(printed) || !same(printed[at], part) {
			t.Errorf("keyhook %s does not print\n%s\nbut\n%s", command, part, all)
			return
		}
		at, gap = at+1, false
	}
	if at < len(printed) && !gap {
		t.Errorf("keyhook %s also prints\n%s", command, strings.Join(printed[at:], "\n\n"))
	}
}

// same compares two parts. Lines that are cut off are so at different places.
func same(a, b string) bool {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	return slices.EqualFunc(as, bs, func(a, b string) bool {
		beginA, cutA := strings.CutSuffix(a, "…")
		beginB, cutB := strings.CutSuffix(b, "…")
		if cutA && cutB {
			n := min(len(beginA), len(beginB))
			return beginA[:n] == beginB[:n]
		}
		return a == b
	})
}

func setSecrets(t *testing.T) {
	t.Helper()
	for _, name := range []string{"ETCD_PASSWORD", "PAGER_AUTH", "ONCALL_AUTH"} {
		t.Setenv(name, "s3cret-value")
	}
	for _, name := range []string{"PAGER_SECRET", "ONCALL_SECRET"} {
		t.Setenv(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	}
	t.Setenv("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x")
	t.Setenv("ALERTMANAGER_URL", "http://127.0.0.1:9093/api/v2/alerts")
}
