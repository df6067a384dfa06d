package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook/internal/certtest"
	"keyhook/internal/strictyaml"
	"keyhook/watch"
)

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

func environment(vars map[string]string) strictyaml.Environment {
	return strictyaml.Environment{LookupEnv: func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}}
}

func TestAnAlmostEmptyFileIsAllDefaults(t *testing.T) {
	dir := write(t, map[string]string{"keyhook.yaml": "log: {}\n"})
	c, problems := Load(filepath.Join(dir, "keyhook.yaml"))
	if len(problems) > 0 || len(c.Warnings) > 0 {
		t.Fatalf("problems %v, warnings %v", problems, c.Warnings)
	}
	if !slices.Equal(c.Etcd.Endpoints, []string{"http://127.0.0.1:2379"}) ||
		c.Etcd.Watch != nil || c.Etcd.Start != watch.Now || c.Etcd.OnGap != Repair {
		t.Errorf("etcd %+v", c.Etcd)
	}
	if c.Source != "" {
		t.Errorf("source %q", c.Source)
	}
	if c.Checkpoint != (Checkpoint{Dir: filepath.Join(dir, "keyhook-data"), Interval: 100 * time.Millisecond}) {
		t.Errorf("checkpoint %+v", c.Checkpoint)
	}
	if len(c.Rules) != 1 || c.Rules[0].Pattern != filepath.Join(dir, "rules", "*.yaml") {
		t.Errorf("rules %+v", c.Rules)
	}
	if c.Admin.Listen != "127.0.0.1:8585" || c.Admin.Token.IsSet() {
		t.Errorf("admin %+v", c.Admin)
	}
	if c.DeadLetters != (DeadLetters{MaxNumber: 100_000, MaxBytes: 1 << 30}) {
		t.Errorf("dead letters %+v", c.DeadLetters)
	}
	if c.Log != (Log{Level: slog.LevelInfo, Format: Text}) || !c.Metrics.PerRule {
		t.Errorf("log %+v, metrics %+v", c.Log, c.Metrics)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	for text, want := range map[string]DeadLetters{
		"{max_age: 30d}":                {MaxAge: 720 * time.Hour, MaxNumber: 100_000, MaxBytes: 1 << 30},
		"{max_number: 5}":               {MaxNumber: 5, MaxBytes: 1 << 30},
		"{max_bytes: 512MiB}":           {MaxNumber: 100_000, MaxBytes: 512 << 20},
		"{max_bytes: 4096}":             {MaxNumber: 100_000, MaxBytes: 4096},
		"{max_number: 0, max_bytes: 0}": {},
	} {
		dir := write(t, map[string]string{"keyhook.yaml": "dead_letters: " + text + "\n"})
		c, problems := Load(filepath.Join(dir, "keyhook.yaml"))
		if len(problems) > 0 || c.DeadLetters != want {
			t.Errorf("%s: %v, %+v", text, problems, c.DeadLetters)
		}
	}
	for text, want := range map[string]string{
		"{max_age: 30}":      ":1:25: \"30\" is not a duration",
		"{max_number: -1}":   ":1:28: max_number must not be negative",
		"{max_bytes: 1 MiX}": ":1:27: \"1 MiX\" is not a size",
		"{max_bytes: -1}":    ":1:27: \"-1\" is not a size",
		"{max_bytes: []}":    ":1:27: expected a size",
	} {
		dir := write(t, map[string]string{"keyhook.yaml": "dead_letters: " + text + "\n"})
		if _, problems := Load(filepath.Join(dir, "keyhook.yaml")); len(problems) != 1 || !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, problems, want)
		}
	}
}

func TestEveryField(t *testing.T) {
	cert, key := certtest.New(t, "config").Issue("client")
	dir := write(t, map[string]string{
		"ca.pem": string(cert), "client.pem": string(cert), "client-key.pem": string(key), "token": "open sesame\n",
		"keyhook.yaml": `
etcd:
  endpoints: [https://a:2379, "https://b:2379"]
  watch: [/service/, /apisix/]
  start: 4711
  on_gap: halt
  username: keyhook
  password: {env: ETCD_PASSWORD}
  tls: {ca_file: ca.pem, cert_file: client.pem, key_file: client-key.pem}
source: /etcd/prod
checkpoint:
  disk: {dir: /var/lib/keyhook}
  interval: 250ms
rules: [rules/*.yaml, /etc/keyhook/more.yaml]
admin: {listen: "0.0.0.0:80", token: {file: token}}
metrics: {per_rule: false}
log: {level: debug, format: json}
`})
	c, problems := LoadWith(filepath.Join(dir, "keyhook.yaml"), environment(map[string]string{"ETCD_PASSWORD": "hunter2"}))
	if len(problems) > 0 || len(c.Warnings) > 0 {
		t.Fatalf("problems %v, warnings %v", problems, c.Warnings)
	}
	if got := c.Etcd; !slices.Equal(got.Endpoints, []string{"https://a:2379", "https://b:2379"}) ||
		!slices.Equal(got.Watch, []string{"/service/", "/apisix/"}) ||
		got.Start != watch.FromRevision(4711) || got.OnGap != Halt ||
		got.Username != "keyhook" || got.Password.Reveal() != "hunter2" ||
		got.TLS != (TLS{dir + "/ca.pem", dir + "/client.pem", dir + "/client-key.pem"}) {
		t.Errorf("etcd %+v", got)
	}
	if c.Source != "/etcd/prod" || c.Checkpoint != (Checkpoint{"/var/lib/keyhook", 250 * time.Millisecond}) {
		t.Errorf("source %q, checkpoint %+v", c.Source, c.Checkpoint)
	}
	if len(c.Rules) != 2 || c.Rules[0].Pattern != dir+"/rules/*.yaml" || c.Rules[1].Pattern != "/etc/keyhook/more.yaml" {
		t.Errorf("rules %+v", c.Rules)
	}
	if c.Metrics.PerRule {
		t.Errorf("metrics %+v", c.Metrics)
	}
	if c.Admin.Listen != "0.0.0.0:80" || c.Admin.Token.Reveal() != "open sesame" || c.Log != (Log{slog.LevelDebug, JSON}) {
		t.Errorf("admin %+v, log %+v", c.Admin, c.Log)
	}
	if s := fmt.Sprintf("%+v %#v", c, c); strings.Contains(s, "hunter2") || strings.Contains(s, "sesame") {
		t.Errorf("a secret shows: %s", s)
	}
}

// A value that is wrong, where, and what is said about it.
func TestMistakes(t *testing.T) {
	tests := map[string]struct{ yaml, want string }{
		"a typo":                      {"etcd: {endpoint: [http://a:1]}", `1:8: unknown field "endpoint"`},
		"no endpoints":                {"etcd: {endpoints: []}", `1:19: no endpoints`},
		"an endpoint without port":    {"etcd: {endpoints: [http://a]}", `1:20: endpoint "http://a" names no port`},
		"an endpoint without scheme":  {"etcd: {endpoints: ['127.0.0.1:2379']}", `1:20: endpoint "127.0.0.1:2379" is not a URL`},
		"an endpoint without slashes": {"etcd: {endpoints: ['a:2379']}", `1:20: endpoint "a:2379" is not a URL`},
		"an endpoint of another kind": {"etcd: {endpoints: ['ftp://a:1']}", `1:20: endpoint "ftp://a:1" has the scheme ftp`},
		"an endpoint with a user":     {"etcd: {endpoints: ['http://u:p@a:1']}", "1:20: an endpoint holds a user"},
		"an endpoint with a path":     {"etcd: {endpoints: ['http://a:1/v3']}", "has more than a host and a port"},
		"a socket without a name":     {"etcd: {endpoints: ['unix:']}", "names no socket"},
		"an endpoint twice":           {"etcd: {endpoints: ['http://a:1', 'http://a:1']}", "named twice"},
		"endpoints of two kinds":      {"etcd: {endpoints: ['http://a:1', 'https://b:1']}", "1:34: endpoints are of different schemes: http and https"},
		"nothing to watch":            {"etcd: {watch: []}", "1:15: nothing to watch"},
		"a start that is none":        {"etcd: {start: tomorrow}", `1:15: a start is now, snapshot, earliest or a revision from 1, not "tomorrow"`},
		"a start before history":      {"etcd: {start: 0}", "not \"0\""},
		"a start that is a list":      {"etcd: {start: [now]}", "1:15: expected a start, found a list"},
		"an unknown policy":           {"etcd: {on_gap: repare}", "1:16: unknown on_gap \"repare\"\n    did you mean \"repair\"?"},
		"a user without password":     {"etcd: {username: u}", "1:18: a username without a password"},
		"a user without name":         {"etcd: {username: '', password: p}", "1:18: the username is empty"},
		"a password without user":     {"etcd: {password: p}", "1:18: a password without a username"},
		"a password that is not set":  {"etcd: {username: u, password: {env: NOPE}}", "1:31: environment variable NOPE is not set"},
		"tls beside http":             {"etcd: {tls: {}}", "1:13: tls is set, and the endpoints do not use it"},
		"a certificate without key":   {"etcd: {endpoints: ['https://a:1'], tls: {cert_file: keyhook.yaml}}", "1:53: a cert_file without a key_file"},
		"a key without certificate":   {"etcd: {endpoints: ['https://a:1'], tls: {key_file: keyhook.yaml}}", "1:52: a key_file without a cert_file"},
		"a CA that is missing":        {"etcd: {endpoints: ['https://a:1'], tls: {ca_file: ca.pem}}", "ca.pem: no such file"},
		"a CA that is none":           {"etcd: {endpoints: ['https://a:1'], tls: {ca_file: keyhook.yaml}}", "holds no certificate"},
		"a key pair that is none":     {"etcd: {endpoints: ['https://a:1'], tls: {cert_file: keyhook.yaml, key_file: keyhook.yaml}}", "cannot be used"},
		"a source with spaces":        {"source: my etcd", `1:9: the source "my etcd" is not a URI reference`},
		"an empty source":             {"source: ''", "1:9: the source is empty"},
		"an interval without unit":    {"checkpoint: {interval: 100}", `1:24: "100" is not a duration: the unit is missing`},
		"an interval beyond reason":   {"checkpoint: {interval: 1m}", "1:24: the interval must be between 1ms and 2s"},
		"no directory":                {"checkpoint: {disk: {dir: ''}}", "1:26: the value is empty"},
		"no rules":                    {"rules: []", "1:8: no rules"},
		"rules that are no list":      {"rules: a.yaml", "1:8: expected a list, found"},
		"a rule file that is none":    {"rules: [5]", "1:9: expected a string, found 5"},
		"endpoints that are no list":  {"etcd: {endpoints: 'http://a:1'}", "1:19: expected a list, found"},
		"an endpoint that is none":    {"etcd: {endpoints: [{}]}", "1:20: expected a string, found a map"},
		"a watch that is no list":     {"etcd: {watch: /a/}", "1:15: expected a list, found"},
		"a glob that is none":         {"rules: ['rules/[a.yaml']", "1:9: \"rules/[a.yaml\" is not a glob"},
		"an address without port":     {"admin: {listen: localhost}", `1:17: "localhost" is not an address to listen on`},
		"a token that is missing":     {"admin: {token: {file: nope}}", "1:16: cannot read secret file"},
		"an unknown level":            {"log: {level: loud}", `1:14: unknown log level "loud"`},
		"an unknown format":           {"log: {format: xml}", `1:15: unknown log format "xml"`},
		"a wrong type, once":          {"log: {format: 5}", "1:15: expected a string, found 5"},
		"nothing at all":              {"", "1:1: the file is empty"},
		"a file cut off":              {"etcd: {endpoints: [", "not YAML"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"keyhook.yaml": tt.yaml})
			path := filepath.Join(dir, "keyhook.yaml")
			_, problems := LoadWith(path, environment(nil))
			if len(problems) != 1 {
				t.Errorf("%d problems", len(problems))
			}
			if got := problems.Error(); !strings.HasPrefix(got, path+":") || !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnceAndInOrder(t *testing.T) {
	dir := write(t, map[string]string{"keyhook.yaml": `
log: {level: loud}
etcd:
  start: never
  username: u
sauce: /etcd/prod
admin: {listen: x}
`})
	path := filepath.Join(dir, "keyhook.yaml")
	c, problems := LoadWith(path, environment(nil))
	want := []string{":2:14: ", ":4:10: ", ":5:13: ", ":6:1: ", ":7:17: "}
	if len(problems) != len(want) {
		t.Fatalf("got %d problems:\n%s", len(problems), problems)
	}
	for i, p := range problems {
		if !strings.HasPrefix(p.Error(), path+want[i]) {
			t.Errorf("problem %d is %s, want it at %s", i, p, want[i])
		}
	}
	if c == nil || len(c.Rules) != 1 {
		t.Errorf("the rules cannot be looked at: %+v", c)
	}
}

func TestAMissingFileSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyhook.yaml")
	c, problems := Load(path)
	want := path + ":1:1: cannot read the configuration: no such file or directory\n" +
		"    name the file with -c FILE; `keyhook dev` runs an example that needs none"
	if c != nil || problems.Error() != want {
		t.Errorf("got %s", problems)
	}
}

func TestServingTheNetworkWithoutATokenIsAWarning(t *testing.T) {
	for listen, warnings := range map[string]int{
		"0.0.0.0:80": 1, ":80": 1, "10.0.0.1:80": 1, "127.0.0.1:80": 0, "localhost:80": 0, "[::1]:80": 0,
	} {
		dir := write(t, map[string]string{"keyhook.yaml": fmt.Sprintf("admin: {listen: %q}", listen)})
		c, problems := Load(filepath.Join(dir, "keyhook.yaml"))
		if len(problems) != 0 || len(c.Warnings) != warnings {
			t.Errorf("%s: problems %v, warnings %v", listen, problems, c.Warnings)
		}
	}
}

func TestRuleFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":       "rules: [rules/*.yaml, rules/b.yaml, more.yaml]",
		"rules/b.yaml":       "b",
		"rules/a.yaml":       "a",
		"rules/.#a.yaml":     "an editor's",
		"rules/notes.txt":    "",
		"rules/a_test.yaml":  "of tests",
		"more.yaml":          "more",
		"rules/sub/far.yaml": "",
	})
	c, problems := Load(filepath.Join(dir, "keyhook.yaml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	files, problems := c.RuleFiles()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var got []string
	for _, f := range files {
		rel, err := filepath.Rel(dir, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rel+"="+string(f.Data))
	}
	if want := []string{"rules/a.yaml=a", "rules/b.yaml=b", "more.yaml=more"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestADirectoryWithANameLikeAGlob(t *testing.T) {
	dir := write(t, map[string]string{"[prod]*/keyhook.yaml": "log: {}", "[prod]*/rules/a.yaml": "a", "p/rules/b.yaml": "b"})
	c, problems := Load(filepath.Join(dir, "[prod]*", "keyhook.yaml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	paths, problems := c.RulePaths()
	if len(problems) > 0 || !slices.Equal(paths, []string{filepath.Join(dir, "[prod]*", "rules", "a.yaml")}) {
		t.Errorf("got %v, %v", paths, problems)
	}
}

func TestRuleFilesThatAreNotThere(t *testing.T) {
	dir := write(t, map[string]string{
		"keyhook.yaml":           "rules:\n  - rules/*.yaml\n  - missing.yaml\n  - folder*\n  - " + os.DevNull,
		"folder.d/inner":         "",
		"elsewhere/.hidden.yaml": "",
	})
	path := filepath.Join(dir, "keyhook.yaml")
	c, problems := Load(path)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	_, problems = c.RuleFiles()
	want := []string{
		path + ":2:5: no file matches " + dir + "/rules/*.yaml",
		path + ":3:5: no file matches " + dir + "/missing.yaml",
		dir + "/folder.d:1:1: cannot read the rules: is a directory",
		os.DevNull + ":1:1: cannot read the rules: is not a regular file",
	}
	if len(problems) != len(want) {
		t.Fatalf("got %s", problems)
	}
	for i, p := range problems {
		if !strings.HasPrefix(p.Error(), want[i]) {
			t.Errorf("got  %s\nwant %s", p, want[i])
		}
	}
}
