package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"keyhook/internal/cli"
	"keyhook/internal/devserver"
)

// asKeyhook makes the test binary behave as keyhook, for tests that need a
// process of its own.
const asKeyhook = "KEYHOOK_TEST_AS_KEYHOOK"

func TestMain(m *testing.M) {
	if os.Getenv(asKeyhook) != "" {
		os.Exit(cli.Main())
	}
	goleak.VerifyTestMain(m)
}

// keyhook runs a command line in this process.
func keyhook(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = cli.Run(cli.Process{Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

// write puts files into a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	goodConfig = "etcd: {endpoints: ['http://127.0.0.1:1']}\nadmin: {listen: '127.0.0.1:0'}\n"
	goodRules  = `sinks:
  - name: pager
    webhook:
      url: https://hooks.example.com/T0/s3cret-path?key=s3cret-query
      headers: {Authorization: Bearer s3cret-header}
      sign: [{secret: whsec_c2VjcmV0LXNpZ25hdHVyZS1zZWNyZXQtc2lnbmF0dXJl}]
    rate: 100/s
rules:
  - name: failover
    description: Somebody else leads.
    keys: ["/service/{scope}/leader", "/other/{scope}/leader"]
    send: {sink: pager}
`
)

// A command line, its exit code, and what it says on stderr; a wrong one prints
// nothing on stdout.
func TestWrongUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	tests := map[string]struct {
		args []string
		want string
	}{
		"no command":             {nil, "keyhook: no command given"},
		"an unknown command":     {[]string{"chekc"}, "keyhook: unknown command \"chekc\"\n    did you mean \"check\"?"},
		"an unknown flag":        {[]string{"run", "--foo"}, "keyhook: unknown flag: --foo\n    `keyhook run --help` lists the flags"},
		"an unknown output":      {[]string{"check", "--output", "xml"}, "write text or json"},
		"an argument":            {[]string{"check", "keyhook.yaml"}, "keyhook: keyhook check takes no arguments, found \"keyhook.yaml\"\n    the configuration is named with -c FILE"},
		"a flag without a value": {[]string{"check", "-c"}, "flag needs an argument"},
		"a timeout without unit": {[]string{"dev", "--timeout", "5"}, "invalid argument"},
		"no configuration":       {[]string{"check"}, "keyhook.yaml:1:1: cannot read the configuration: no such file or directory\n    name the file"},
		"none to run":            {[]string{"run", "-c", "other.yaml"}, "other.yaml:1:1: cannot read the configuration"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := keyhook(tt.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("code %d, stdout %q, stderr\n%s\nwant\n%s", code, stdout, stderr, tt.want)
			}
		})
	}
}

// The binary of a release has no servers to play with, and says so before it
// looks at anything else.
func TestDevWithoutItsConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	wantCode, want := 2, "other.yaml:1:1: cannot read the configuration"
	if !devserver.Included {
		wantCode, want = 1, "built with the tag nodev"
	}
	code, stdout, stderr := keyhook("dev", "--once", "-c", "other.yaml")
	if code != wantCode || stdout != "" || !strings.Contains(stderr, want) {
		t.Errorf("code %d, stdout %q, stderr\n%s\nwant %d and\n%s", code, stdout, stderr, wantCode, want)
	}
}

func TestMistakesInFilesAreReportedAtOnceAndNothingIsStarted(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":   "etcd: {strat: now}\nlog: {level: loud}\n",
		"rules/one.yaml": strings.Replace(goodRules, "sink: pager}", "sink: pagre}", 1),
		"rules/two.yaml": "rules: [{name: x, keys: '/a/{', send: {sink: pager}}]\n",
	})
	commands := []string{"check", "run"}
	if devserver.Included {
		commands = append(commands, "dev")
	}
	for _, command := range commands {
		code, stdout, stderr := keyhook(command, "-c", filepath.Join(dir, "keyhook.yaml"))
		if code != 2 || stdout != "" {
			t.Errorf("%s: code %d, stdout %q", command, code, stdout)
		}
		for _, want := range []string{
			dir + "/keyhook.yaml:1:8: unknown field \"strat\"\n    did you mean \"start\"?\n",
			dir + "/keyhook.yaml:2:14: ",
			dir + "/rules/one.yaml:12:",
			dir + "/rules/two.yaml:1:",
		} {
			if !strings.Contains("\n"+stderr, "\n"+want) {
				t.Errorf("%s: no line %q in\n%s", command, want, stderr)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "keyhook-data")); !os.IsNotExist(err) {
			t.Errorf("%s has made a data directory: %v", command, err)
		}
	}
}

func TestCheckShowsWhatWouldRun(t *testing.T) {
	dir := write(t, map[string]string{"keyhook.yaml": goodConfig, "rules/one.yaml": goodRules})
	code, stdout, stderr := keyhook("check", "-c", filepath.Join(dir, "keyhook.yaml"))
	if code != 0 || stderr != "" {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for _, want := range []string{
		"keyhook.yaml is fine", "http://127.0.0.1:1", "2 ranges, from the rules' keys\n  /other/\n  /service/\n",
		"1 rule\n  failover", "1 sink\n  pager", "https://hooks.example.com/…", "signed", "header Authorization: plain",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "s3cret") || strings.Contains(stdout, "whsec") {
		t.Errorf("a secret shows:\n%s", stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "keyhook-data")); !os.IsNotExist(err) {
		t.Errorf("it has made a data directory: %v", err)
	}
}

func TestCheckForPrograms(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":   goodConfig + "log: {level: debug}\n",
		"rules/one.yaml": goodRules,
	})
	code, stdout, stderr := keyhook("check", "--output", "json", "-c", filepath.Join(dir, "keyhook.yaml"))
	if code != 0 || stderr != "" {
		t.Fatalf("code %d: %s", code, stderr)
	}
	var got struct {
		Ranges []struct{ Range, Start, End string }
		Rules  []struct {
			Name, At    string
			Keys, Sinks []string
		}
		Sinks []struct {
			Name, Type, Target string
			Signed             bool
			Rate               float64 `json:"rate_per_second"`
		}
		Warnings []struct{}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	if len(got.Ranges) != 2 || got.Ranges[1].Start != "/service/" || got.Ranges[1].End != "/service0" {
		t.Errorf("ranges %+v", got.Ranges)
	}
	if len(got.Rules) != 1 || got.Rules[0].Name != "failover" || len(got.Rules[0].Keys) != 2 || got.Rules[0].Sinks[0] != "pager" ||
		!strings.HasPrefix(got.Rules[0].At, dir+"/rules/one.yaml:9:") {
		t.Errorf("rules %+v", got.Rules)
	}
	if k := got.Sinks[0]; k.Type != "webhook" || k.Target != "https://hooks.example.com/…" || !k.Signed || k.Rate != 100 {
		t.Errorf("sinks %+v", got.Sinks)
	}
	if got.Warnings == nil {
		t.Error("no list of warnings")
	}
	if strings.Contains(stdout, "s3cret") || strings.Contains(stdout, "whsec") {
		t.Errorf("a secret shows:\n%s", stdout)
	}
}

func TestCheckShowsNATSSinks(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml": goodConfig,
		"rules/one.yaml": `sinks:
  - name: bus
    nats: {url: "nats://jo:s3cret-pass@a:4222, nats://b:4222", jetstream: true, stream: AUDIT}
  - name: app
    nats: {url: "tls://a:4222", request: true, token: s3cret-token}
rules:
  - name: audit
    keys: /a
    send: [{sink: bus, subject: '"a"'}, {sink: app, subject: '"a"'}]
`,
	})
	code, stdout, stderr := keyhook("check", "-c", filepath.Join(dir, "keyhook.yaml"))
	if code != 0 {
		t.Fatalf("code %d: %s", code, stderr)
	}
	for _, want := range []string{"nats nats://a:4222,nats://b:4222", "jetstream AUDIT", "nats tls://a:4222", "request", "token: plain"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	if strings.Contains(stdout, "s3cret") {
		t.Errorf("a secret shows:\n%s", stdout)
	}
}

func TestCheckWarns(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":   "etcd: {watch: [/service/a/, /other/]}\nadmin: {listen: '0.0.0.0:8585'}\n",
		"rules/one.yaml": goodRules,
	})
	code, stdout, stderr := keyhook("check", "-c", filepath.Join(dir, "keyhook.yaml"))
	if code != 0 || !strings.Contains(stdout, "is fine") {
		t.Errorf("code %d, stdout\n%s", code, stdout)
	}
	for _, want := range []string{"warning: " + dir + "/keyhook.yaml:2:17: ", "warning: " + dir + "/rules/one.yaml:11:"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := keyhook("version")
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "keyhook ") {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	code, stdout, _ = keyhook("version", "--output", "json")
	var got struct{ Version, Go, Platform string }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || got.Go == "" || got.Platform == "" {
		t.Errorf("code %d, %v: %s", code, err, stdout)
	}
	if code, stdout, stderr := keyhook("--version"); code != 0 || stderr != "" || stdout != "keyhook version "+got.Version+"\n" {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// Every command takes -c, those that read no configuration included.
func TestEveryCommandTakesAConfiguration(t *testing.T) {
	for _, command := range []string{
		"run", "dev", "check", "test", "tail", "explain", "deadletter list", "deadletter show", "deadletter replay", "deadletter purge",
		"owed list", "owed purge", "sink list", "sink pause", "sink resume", "audit", "health", "schema", "version",
	} {
		if code, stdout, _ := keyhook(append(strings.Fields(command), "--help")...); code != 0 || !strings.Contains(stdout, "-c, --config ") {
			t.Errorf("keyhook %s: code %d\n%s", command, code, stdout)
		}
	}
}

func TestHelpIsAResult(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"run", "--help"}, {"help", "check"}} {
		code, stdout, stderr := keyhook(args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%v: code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}
