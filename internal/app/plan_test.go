package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/internal/app"
	"keyhook/internal/strictyaml"
)

// load writes files into a directory, and loads its keyhook.yaml.
func load(t *testing.T, files map[string]string) (*app.Plan, error) {
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
	return app.Load(filepath.Join(dir, "keyhook.yaml"))
}

func TestAllProblemsOfAllFilesAtOnce(t *testing.T) {
	_, err := load(t, map[string]string{
		"keyhook.yaml": "log: {level: loud}\nrules: [rules/*.yaml, missing.yaml]\n",
		"rules/a.yaml": "sinks: [{name: s, webhook: {url: 'http://a/', sign: [{secret: short}]}}]\nrules: [{name: r, keys: '/a/{x', send: {sink: s}}]\n",
		"rules/b.yaml": "rules: [{name: r2, keys: /b/, when: 'event.vlaue == \"\"', send: {sink: s}}]\n",
	})
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		"keyhook.yaml:1:14: unknown log level",
		"keyhook.yaml:2:23: no file matches",
		"rules/a.yaml:2:",
		"rules/b.yaml:1:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	for _, line := range problems {
		if line.Line == 0 {
			t.Errorf("without a place: %v", line)
		}
	}
}

// What a sink has to say of its fields comes with the mistakes of rules, in one
// go, and each at its own place.
func TestEachFieldOfAWebhookHasItsPlace(t *testing.T) {
	_, err := load(t, map[string]string{
		"keyhook.yaml": "log: {}\n",
		"rules/a.yaml": `sinks:
  - name: s
    webhook:
      url: http://169.254.169.254:0/latest
      headers:
        X-Fine: "1"
        "X Y": "2"
        X-Broken: "to\tken\nand more"
      sign:
        - secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
        - secret: not base64
rules: [{name: r, keys: '/a/{x', send: {sink: s}}]
`,
	})
	if err == nil {
		t.Fatal("no mistake is found")
	}
	for _, want := range []string{
		"rules/a.yaml:4:12: url has the port 0",
		"rules/a.yaml:4:12: url cannot be called: address 169.254.169.254 is refused",
		"rules/a.yaml:7:16: headers.X Y is not a valid header name",
		"rules/a.yaml:8:19: headers.X-Broken has a line break",
		"rules/a.yaml:11:19: sign[1].secret must begin with whsec_",
		"rules/a.yaml:12:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	for _, secret := range []string{"and more", "not base64"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows: %v", secret, err)
		}
	}
}

func TestASinkThatCannotBeMadeIsAProblemWithItsPlace(t *testing.T) {
	_, err := load(t, map[string]string{
		"keyhook.yaml": "log: {}\n",
		"rules/a.yaml": `sinks:
  - name: s
    webhook: {url: "http://169.254.169.254/latest", sign: [{secret: "not base64"}]}
rules: [{name: r, keys: /a/, send: {sink: s}}]
`,
	})
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	for _, p := range problems {
		if p.Line < 2 || p.Line > 3 || !strings.HasSuffix(p.Path, "rules/a.yaml") {
			t.Errorf("at another place: %v", p)
		}
	}
	if strings.Contains(err.Error(), "not base64") {
		t.Errorf("the secret shows: %v", err)
	}
}

func TestMistakesInANATSSinkHaveTheirPlace(t *testing.T) {
	_, err := load(t, map[string]string{
		"keyhook.yaml": "log: {}\n",
		"rules/a.yaml": `sinks:
  - name: bus
    nats:
      url: nats://jo:t0ps@h/path
      jetstream: true
      request: true
      nkey: SUt0ps
      creds_file: user.creds
      tls:
        ca_file: ca.pem
rules: [{name: r, keys: '/a/{x', send: {sink: bus, subject: '"a"'}}]
`,
	})
	if err == nil {
		t.Fatal("no mistake is found")
	}
	for _, want := range []string{
		"rules/a.yaml:4:12: url must end with the host",
		"rules/a.yaml:6:16: request does not go with jetstream",
		"rules/a.yaml:7:13: nkey is not the seed of a user",
		"rules/a.yaml:8:19: creds_file does not go with nkey",
		"rules/a.yaml:8:19: creds_file cannot be read: ", "rules/user.creds: no such file",
		"rules/a.yaml:10:18: tls.ca_file cannot be read: ", "rules/ca.pem: no such file",
		"rules/a.yaml:11:", // the rule
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "t0ps") {
		t.Errorf("a secret shows: %v", err)
	}
}

func TestRangesAreDerivedFromTheRules(t *testing.T) {
	plan, err := load(t, map[string]string{
		"keyhook.yaml": "log: {}\n",
		"rules/a.yaml": `sinks: [{name: s, webhook: {url: 'http://a/'}}]
rules:
  - {name: r, keys: '/a/{x}', send: {sink: s}}
  - {name: q, keys: '/a/b/{y...}', send: {sink: s}}
  - {name: p, keys: /c, send: {sink: s}}
`,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range plan.Ranges {
		got = append(got, r.String())
	}
	if strings.Join(got, " ") != "/a/ =/c" {
		t.Errorf("got %v", got)
	}
}

func TestExplicitRangesBoundTheRules(t *testing.T) {
	rules := "sinks: [{name: s, webhook: {url: 'http://a/'}}]\nrules: [{name: r, keys: '/a/{x...}', send: {sink: s}}]\n"
	_, err := load(t, map[string]string{"keyhook.yaml": "etcd: {watch: [/b/]}\n", "rules/a.yaml": rules})
	var problems strictyaml.Problems
	if !errors.As(err, &problems) || !strings.Contains(err.Error(), "rules/a.yaml:2:") {
		t.Errorf("keys outside of the watch: %v", err)
	}
	plan, err := load(t, map[string]string{"keyhook.yaml": "etcd: {watch: [/a/b/, /a/b/c/]}\n", "rules/a.yaml": rules})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Ranges) != 1 || plan.Ranges[0].String() != "/a/b/" || len(plan.Warnings) != 1 {
		t.Errorf("ranges %v, warnings %v", plan.Ranges, plan.Warnings)
	}
}
