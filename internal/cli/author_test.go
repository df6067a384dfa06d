package cli_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook/internal/etcdtest"
)

// What the author of a rule does: test it, have its bodies written, look at its
// coverage, ask why, look on, record.

const authorRules = `sinks:
  - name: pager
    webhook: {url: {env: PAGER_URL}}
rules:
  - name: failover
    keys: /service/{scope}/leader
    when: event.type == "PUT" && event.value != event.?last.value.orValue("")
    send: {sink: pager, body: '{"text": params.scope + " is led by " + event.value}'}
  - name: nobody
    keys: /nobody/{x}
    send: {sink: pager}
`

const authorTests = `# A comment that stays.
tests:
  - name: a failover
    put: {/service/batman/leader: a}
    expect:
      body: TODO
  - name: nothing new
    seed: {/service/batman/leader: a}
    put: {/service/batman/leader: a}
    expect_none: true
`

func author(t *testing.T) {
	t.Helper()
	t.Chdir(write(t, map[string]string{
		"keyhook.yaml": goodConfig, "rules/a.yaml": authorRules, "rules/a_test.yaml": authorTests,
	}))
}

func TestTestCommand(t *testing.T) {
	author(t)
	code, stdout, stderr := keyhook("test")
	if code != 1 || !strings.Contains(stdout, `body: want "TODO", got "{\"text\":\"batman is led by a\"}"`) || stderr != "keyhook: 1 of 2 tests failed\n" {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	// The bodies that arrived are written in, and the tests pass.
	code, stdout, stderr = keyhook("test", "--update", "--coverage", "--junit", "junit.xml", "rules")
	if code != 0 || stderr != "rules/a_test.yaml: updated 1 body\n" {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	if !strings.Contains(stdout, "coverage: 1 of 2 rules matched, 83 % of branches") || !strings.Contains(stdout, "nobody never matches") {
		t.Errorf("the coverage is\n%s", stdout)
	}
	data, err := os.ReadFile("rules/a_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(authorTests, "TODO", `{"text": "batman is led by a"}`, 1); string(data) != want {
		t.Errorf("the updated file is\n%s", data)
	}
	// Other programs read the result.
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	if data, err = os.ReadFile("junit.xml"); err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(data, &suites); err != nil || suites.Tests != 2 || suites.Failures != 0 {
		t.Errorf("%v %+v", err, suites)
	}
	code, stdout, _ = keyhook("test", "--output", "json", "--run", "^a failover$", "rules/a_test.yaml")
	var report struct {
		Passed bool
		Files  []struct{ Tests []struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 || !report.Passed || len(report.Files[0].Tests) != 1 {
		t.Errorf("code %d, %v\n%s", code, err, stdout)
	}
	// A glob of rules passes over tests.
	t.Setenv("PAGER_URL", "http://127.0.0.1:1/")
	if code, _, stderr := keyhook("check"); code != 0 {
		t.Errorf("check: %s", stderr)
	}
}

// A sink that is told of dead letters gets their stories.
func TestDeadLettersAreTold(t *testing.T) {
	author(t)
	for path, text := range map[string]string{
		"rules/a.yaml": `sinks:
  - {name: pager, webhook: {url: 'http://127.0.0.1:1/'}, dead_letter: mail}
  - {name: mail, webhook: {url: 'http://127.0.0.1:1/'}}
rules:
  - {name: all, keys: '/a/{x}', send: {sink: pager}}
`,
		"rules/a_test.yaml": `tests:
  - name: the pager refuses
    sinks: {pager: 400}
    put: {/a/1: x}
    expect:
      sink: mail
      body_contains: {type: keyhook.dead_letter, data: {rule: all, sink: pager, reason: rejected, attempts: 1}}
    expect_dead: {sink: pager}
`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, stdout, stderr := keyhook("test"); code != 0 {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
}

func TestTestsThatAreWrong(t *testing.T) {
	author(t)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no tests":           {[]string{"test", t.TempDir()}, "there are no tests in"},
		"no such file":       {[]string{"test", "b_test.yaml"}, "cannot read the tests"},
		"a wrong expression": {[]string{"test", "--run", "("}, "--run: error parsing regexp"},
		"nothing to run":     {[]string{"test", "--run", "xyz"}, `no test matches --run "xyz"`},
		"no change":          {[]string{"explain"}, "there is no change to explain"},
		"two changes":        {[]string{"explain", "--revision", "1", "--value", "x"}, "--revision and --value do not go together"},
		"an unknown rule":    {[]string{"explain", "--key", "x", "--rule", "failovr"}, `there is no rule "failovr"`},
		"a wrong type":       {[]string{"explain", "--key", "x", "--type", "GET"}, `"GET" is not the type of a change`},
		"a wrong name":       {[]string{"tail", "--record", "x.yaml"}, "x.yaml is not the name of a file of tests"},
		"a file that exists": {[]string{"tail", "--record", "rules/a_test.yaml"}, "is there already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PAGER_URL", "http://127.0.0.1:1/")
			if code, stdout, stderr := keyhook(tt.args...); code != 2 || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
	if err := os.WriteFile("rules/a_test.yaml", []byte("tests:\n  - {name: x, putt: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := keyhook("test")
	if code != 2 || !strings.Contains(stderr, "rules/a_test.yaml:2:15: unknown field \"putt\"\n    did you mean \"put\"?") {
		t.Errorf("code %d\n%s", code, stderr)
	}
}

func TestExplain(t *testing.T) {
	author(t)
	t.Setenv("PAGER_URL", "http://127.0.0.1:1/")
	code, stdout, stderr := keyhook("explain", "--key", "/service/batman/leader", "--value", "a", "--last-value", "a")
	want := `PUT /service/batman/leader = "a", before it was deleted: "a"

failover does not match  (rules/a.yaml:5:11)
  keys: /service/{scope}/leader  with params.scope = "batman"
  when: event.type == "PUT" && event.value != event.?last.value.orValue("")   false
    event.type == "PUT"                                                       true
        event.type                                                            "PUT"
    event.value != event.?last.value.orValue("")                              false   ← decides
        event.value                                                           "a"
        event.?last.value.orValue("")                                         "a"
            event.?last.value                                                 "a"

1 rule looks at other keys: nobody
`
	if code != 0 || stdout != want {
		t.Errorf("code %d, stderr %q\n%s", code, stderr, stdout)
	}
	code, stdout, _ = keyhook("explain", "--key", "/service/batman/leader", "--value", "b", "--output", "json")
	var all []struct {
		Rules []struct {
			Rule       string
			Matched    bool
			Deliveries []struct{ Sink, Body string }
		}
	}
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 0 {
		t.Fatalf("code %d, %v\n%s", code, err, stdout)
	}
	if r := all[0].Rules; len(r) != 1 || !r[0].Matched || r[0].Deliveries[0].Body != `{"text":"batman is led by b"}` {
		t.Errorf("%+v", r)
	}
}

// What stands in a key or a value does not control the terminal, and is the same
// for programs.
func TestExplainEscapesWhatDoesNotPrint(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml": goodConfig,
		"rules/a.yaml": "sinks: [{name: s, webhook: {url: 'http://127.0.0.1/'}}]\nrules: [{name: r, keys: '/a/{x}', when: 'event.value != \"\"', send: {sink: s, body: 'event.value'}}]\n",
	})
	const value = "\x1b[31mred\u009b2J"
	args := []string{"explain", "-c", filepath.Join(dir, "keyhook.yaml"), "--key", "/a/\x1b[1m", "--value", value}
	code, stdout, stderr := keyhook(args...)
	if code != 0 || strings.ContainsAny(stdout, "\x1b\u009b") || !strings.Contains(stdout, `      \x1b[31mred\u009b2J`) {
		t.Errorf("code %d\n%q\n%s", code, stdout, stderr)
	}
	code, stdout, stderr = keyhook(append(args, "--output", "json")...)
	var all []struct{ Event struct{ Value string } }
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 1 || all[0].Event.Value != value || strings.ContainsAny(stdout, "\x1b\u009b") {
		t.Errorf("code %d, %v\n%q\n%s", code, err, stdout, stderr)
	}
}

// What etcd did is explained, shown, and recorded as a test that passes.
func TestLive(t *testing.T) {
	etcd := etcdtest.Start(t)
	dir := write(t, map[string]string{
		"keyhook.yaml": fmt.Sprintf("etcd: {endpoints: [%q]}\n", etcd.Endpoints()[0]), "rules/a.yaml": authorRules,
	})
	t.Chdir(dir)
	t.Setenv("PAGER_URL", "http://127.0.0.1:1/")
	c := etcd.Client()
	for _, op := range []clientv3.Op{
		clientv3.OpPut("/service/batman/leader", "a"), // revision 2
		clientv3.OpPut("/service/batman/leader", "b"),
		clientv3.OpPut("/service/batman/leader", "b"),
		clientv3.OpDelete("/service/batman/leader"),
		clientv3.OpPut("/service/batman/leader", "b"), // revision 6
	} {
		if _, err := c.Do(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}

	code, stdout, stderr := keyhook("explain", "--revision", "6")
	if code != 0 || !strings.Contains(stdout, `PUT /service/batman/leader = "b", before it was deleted: "b"`) || !strings.Contains(stdout, "failover does not match") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr = keyhook("explain", "--revision", "7"); code != 1 || !strings.Contains(stderr, "etcd is at revision 6 only") {
		t.Errorf("code %d: %s", code, stderr)
	}

	code, stdout, stderr = keyhook("tail", "--revision", "3", "--count", "4", "--record", "rules/recorded_test.yaml")
	if code != 0 || !strings.Contains(stdout, `failover → pager  {"text":"batman is led by b"}`) || !strings.Contains(stderr, "a test of 4 revisions") {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, stderr = keyhook("test", "rules/recorded_test.yaml")
	if code != 0 || !strings.HasPrefix(stdout, "ok    rules/recorded_test.yaml  1 test\n") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	// It is not a test that passes whatever the rule does.
	changed := strings.Replace(authorRules, "is led by", "has been taken over by", 1)
	if err := os.WriteFile(filepath.Join(dir, "rules", "a.yaml"), []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, _ = keyhook("test", "rules/recorded_test.yaml"); code != 1 {
		t.Errorf("the recording passes with another rule: code %d", code)
	}

	code, stdout, _ = keyhook("tail", "--revision", "2", "--count", "2", "--rule", "failover", "--output", "json")
	var line struct {
		Event   struct{ Value string }
		Matched []string
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if err := json.Unmarshal([]byte(lines[1]), &line); err != nil || code != 0 || line.Event.Value != "b" || line.Matched[0] != "failover" {
		t.Errorf("code %d, %v\n%s", code, err, stdout)
	}
	if code, _, stderr = keyhook("tail", "--timeout", "10ms", "--key", "/other/"); code != 0 {
		t.Errorf("the end of the time is no failure: %s", stderr)
	}
}
