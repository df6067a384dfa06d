package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyhook/test/lab"
)

var update = flag.Bool("update", false, "write what the outage prints into docs/outage.md")

const guide = "../docs/outage.md"

// guideRules are the rules of the guide, with the addresses of its receivers.
func guideRules(pager, audit, state string) string {
	return fmt.Sprintf(`sinks:
  - name: pager
    webhook: {url: %q}
    retry: {initial: 200ms, max: 1s}
  - name: audit
    webhook: {url: %q}
rules:
  - name: member-state
    keys: /service/{scope}/members/{name}
    when: event.type == "PUT"
    send:
      - sink: pager
        body: '{"text": params.name + " is " + %s}'
      - sink: audit
`, pager, audit, state)
}

// The guide to an outage is an outage: everything that it shows was printed.
func TestTheGuideToAnOutageIsReal(t *testing.T) {
	b := setUp(t, 3*time.Minute)
	pager, audit := startPager(t), startPager(t)
	k := b.keyhook(guideRules(pager.url, audit.url, "event.json.state"))
	k.Config = "keyhook.yaml" // as somebody would type it
	g := readGuide(b, k)
	client := b.etcd.Client()
	put := func(name, value string) {
		t.Helper()
		_, err := client.Put(b.ctx, "/service/batman/members/"+name, value)
		b.must(err)
	}
	k.Start()
	k.AwaitReady()
	put("pg1", `{"role":"primary","state":"running"}`)
	b.must(pager.await(b, 1))
	b.owes(k, 0)

	pager.down(true)
	states := []string{"stopping", "stopped", "starting", "running"}
	for _, state := range states {
		for i := range 25 {
			put(fmt.Sprintf("pg%d", i+1), fmt.Sprintf(`{"role":"replica","state":%q}`, state))
		}
	}
	put("pg9", `{"role":"replica"}`)
	b.owes(k, 100, `sink="pager"`)
	b.owes(k, 0, `sink="audit"`)
	b.must(pager.awaitRefused(b, 25))
	b.awaits(k, "keyhook_breaker_open", 1, `sink="pager"`)
	g.shows("down", "sink", "list")
	g.metrics("metrics", "keyhook_owed{", "keyhook_breaker_open{", "keyhook_dead_letters{")
	g.shows("owed", "owed", "list", "--sink", "pager", "--limit", "5")

	k.Kill()
	g.shows("killed", "owed", "list", "--sink", "pager", "--key-prefix", "/service/batman/members/pg7")
	k.Start()
	k.AwaitReady()
	b.owes(k, 100, `sink="pager"`)
	pager.forget()
	b.must(pager.awaitRefused(b, 1))

	pager.down(false)
	b.must(pager.await(b, 101))
	b.owes(k, 0)
	g.shows("back", "sink", "list")
	if got := pager.about("pg7 "); !slices.Equal(got, []string{"pg7 is stopping", "pg7 is stopped", "pg7 is starting", "pg7 is running"}) {
		t.Errorf("the pager was told of pg7: %q", got)
	}

	g.shows("dead", "deadletter", "list")
	letters, code := k.Command(b.ctx, "deadletter", "list", "--output", "json")
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(letters), &list); err != nil || code != 0 || len(list) != 1 {
		t.Fatalf("dead letters: %v, %d\n%s", err, code, letters)
	}
	g.shows("show", "deadletter", "show", list[0].ID)
	before := strings.Count(k.Log(), reloaded)
	k.WriteRules(guideRules(pager.url, audit.url, `event.json.?state.orValue("of unknown state")`))
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if strings.Count(k.Log(), reloaded) <= before {
			return false, errors.New("the rules have not been reloaded")
		}
		return true, nil
	}))
	g.shows("try", "deadletter", "replay", "--all", "--render", "--dry-run")
	g.shows("replay", "deadletter", "replay", "--all", "--render")
	b.must(pager.await(b, 102))
	b.owes(k, 0)
	if got := pager.about("pg9 is of"); !slices.Equal(got, []string{"pg9 is of unknown state"}) {
		t.Errorf("the pager was told of pg9: %q", got)
	}
	g.shows("over", "deadletter", "list")
	b.stopped(k)
	g.done()
}

// reloaded is in the log whenever other rules have come into force.
const reloaded = `"msg":"rules reloaded"`

// awaits waits until a metric has a value.
func (b *bench) awaits(k *lab.Keyhook, name string, want float64, labels ...string) {
	b.Helper()
	b.must(lab.Poll(b.ctx, func() (bool, error) {
		if got := k.Metric(name, labels...); got != want {
			return false, fmt.Errorf("%s is %v, not %v", name, got, want)
		}
		return true, nil
	}))
}

// pager is a receiver of texts.
type pager struct {
	url     string
	mu      sync.Mutex
	dead    bool
	texts   []string
	refused map[string]bool // the members it was told of in vain
	changed chan struct{}
}

func startPager(t *testing.T) *pager {
	t.Helper()
	p := &pager{changed: make(chan struct{}), refused: make(map[string]bool)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	var message struct{ Text string }
	_ = json.Unmarshal(body, &message) // the other receiver gets something else
	if err != nil || p.dead {
		member, _, _ := strings.Cut(message.Text, " ")
		p.refused[member] = true
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
	} else {
		p.texts = append(p.texts, message.Text)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pager) down(dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = dead
}

// forget forgets whom it was told of in vain.
func (p *pager) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.refused)
}

// await waits until n texts have arrived.
func (p *pager) await(b *bench, n int) error {
	return p.until(b, n, "texts arrived", func() int { return len(p.texts) })
}

// awaitRefused waits until texts about n members have been refused.
func (p *pager) awaitRefused(b *bench, n int) error {
	return p.until(b, n, "members were refused", func() int { return len(p.refused) })
}

func (p *pager) until(b *bench, n int, what string, count func() int) error {
	for {
		p.mu.Lock()
		got, changed := count(), p.changed
		p.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return fmt.Errorf("%d of %d %s: %w", got, n, what, b.ctx.Err())
		}
	}
}

// about returns the last texts that begin so, without what came before the
// outage.
func (p *pager) about(begin string) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.texts {
		if strings.HasPrefix(text, begin) {
			all = append(all, text)
		}
	}
	return all
}

// outageGuide is the page, whose blocks are compared with what is printed:
//
//	<!-- outage: NAME -->
//	```console
//	$ keyhook …
//	```
type outageGuide struct {
	*bench
	k     *lab.Keyhook
	page  []byte
	named map[string]bool
}

func readGuide(b *bench, k *lab.Keyhook) *outageGuide {
	b.Helper()
	page, err := os.ReadFile(guide)
	b.must(err)
	return &outageGuide{bench: b, k: k, page: page, named: make(map[string]bool)}
}

// shows runs a command until it prints what a block of the page shows: the
// breaker tries a sink now and then, and a state may lag behind what the
// receiver has seen.
func (g *outageGuide) shows(name string, args ...string) {
	g.Helper()
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	shown, printed := g.shown(name), ""
	err := lab.Poll(ctx, func() (bool, error) {
		out, code := g.k.Command(g.ctx, args...)
		if code != 0 {
			return true, fmt.Errorf("keyhook %s ended with %d:\n%s", strings.Join(args, " "), code, out)
		}
		printed = "$ keyhook " + strings.Join(args, " ") + "\n" + trailing.ReplaceAllString(out, "")
		return *update || steady(shown) == steady(printed), errors.New("it is not what the page shows")
	})
	if printed == "" {
		g.Error(err)
	}
	g.compare(name, printed)
}

var trailing = regexp.MustCompile(`(?m)[ \t]+$`)

// patience bounds how long a command may print something else.
const patience = 30 * time.Second

// metrics compares the series that begin as given with a block of the page.
func (g *outageGuide) metrics(name string, begin ...string) {
	g.Helper()
	_, text, err := g.k.Get(g.ctx, "/metrics")
	g.must(err)
	var b strings.Builder
	b.WriteString("$ curl -s http://127.0.0.1:8585/metrics\n...\n")
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(begin, func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
			b.WriteString(line)
		}
	}
	g.compare(name, b.String())
}

// shown is a block of the page.
func (g *outageGuide) shown(name string) string {
	g.Helper()
	from, to := g.find(name)
	return string(g.page[from:to])
}

func (g *outageGuide) find(name string) (from, to int) {
	g.Helper()
	block := regexp.MustCompile("(?s)<!-- outage: " + name + " -->\n```console\n(.*?)```\n")
	at := block.FindSubmatchIndex(g.page)
	if at == nil {
		g.Fatalf("%s has no block %q", guide, name)
	}
	return at[2], at[3]
}

func (g *outageGuide) compare(name, printed string) {
	g.Helper()
	g.named[name] = true
	if *update {
		from, to := g.find(name)
		g.page = slices.Concat(g.page[:from], []byte(printed), g.page[to:])
		return
	}
	if shown := g.shown(name); steady(shown) != steady(printed) {
		g.Errorf("%s shows under %q\n%s\nwhat is printed is\n%s", guide, name, steady(shown), steady(printed))
	}
}

// done checks that every block was compared, or writes the page.
func (g *outageGuide) done() {
	g.Helper()
	for _, m := range regexp.MustCompile("<!-- outage: (.*?) -->").FindAllSubmatch(g.page, -1) {
		if !g.named[string(m[1])] {
			g.Errorf("%s: nothing is printed for the block %q", guide, m[1])
		}
	}
	if *update {
		g.must(os.WriteFile(guide, bytes.TrimRight(g.page, "\n"), 0o600))
		g.must(appendNewline(guide))
	}
}

func appendNewline(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

var passing = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.]*(Z| UTC)?`), "WHEN"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\b(now|due|\d+ (second|minute)s? (ago|from now)|in \d+ (second|minute)s?)\b`), "WHEN"},
	{regexp.MustCompile(`\d+ +(\d+) B\b`), "ATTEMPTS SIZE"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// steady leaves out what differs between two outages.
func steady(text string) string {
	for _, p := range passing {
		text = p.what.ReplaceAllString(text, p.with)
	}
	return strings.TrimSpace(text)
}
