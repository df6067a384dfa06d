package schema_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"keyhook/internal/config"
	"keyhook/internal/schema"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// loadConfig returns what keyhook has against a keyhook.yaml.
func loadConfig(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyhook.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems := config.Load(path)
	return c, problems.Err()
}

func loadRules(text string) (*rules.Set, error) {
	return rules.Load([]rules.File{{Path: "a.yaml", Data: []byte(text)}}, rules.Options{})
}

const (
	sinkFields = "sinks: [{name: s, webhook: {url: 'http://h/'}, %s}]\nrules: [{name: r, keys: /a, send: {sink: s}}]\n"
	natsFields = "sinks: [{name: s, nats: {url: 'nats://h', %s}}]\nrules: [{name: r, keys: /a, send: {sink: s, subject: \"'a'\"}}]\n"
	ruleFields = "sinks: [{name: s, webhook: {url: 'http://h/'}}]\nrules: [{name: r, keys: '/a/{x}', send: {sink: s}, %s}]\n"
	sendFields = "sinks: [{name: s, webhook: {url: 'http://h/'}}]\nrules: [{name: r, keys: /a, send: {sink: s, %s}}]\n"
)

// What keyhook takes the schema takes, and what the schema refuses keyhook
// refuses: an editor cries no wolf.
func TestTheSchemaAndKeyhookAgree(t *testing.T) {
	t.Setenv("A_SECRET", "s3cret")
	tests := []struct {
		template string // "" for a keyhook.yaml
		fields   string
		fine     bool
	}{
		{"", "etcd: {start: now}", true},
		{"", "etcd: {start: 17}", true},
		{"", "etcd: {start: soon}", false},
		{"", "etcd: {start: 1.5}", false},
		{"", "etcd: {start: true}", false},
		{"", "etcd: {username: u, password: {env: A_SECRET}}", true},
		{"", "etcd: {username: u, password: {env: A_SECRET, file: x}}", false},
		{"", "etcd: {username: u, password: {}}", false},
		{"", "etcd: {username: u, password: 1234}", false},
		{"", "etcd: {username: u, password: ''}", false},
		{"", "etcd: {endpoints: 'http://h:1'}", false},
		{"", "etcd: {endpoint: ['http://h:1']}", false},
		{"", "etcd: [a]", false},
		{"", "etcd: {on_gap: repair}", true},
		{"", "etcd: {on_gap: ignore}", false},
		{"", "checkpoint: {interval: 1s}", true},
		{"", "checkpoint: {interval: 1}", false},
		{"", "checkpoint: {interval: 1 s}", false},
		{"", "dead_letters: {max_age: 30d, max_number: 5, max_bytes: 512MiB}", true},
		{"", "dead_letters: {max_age: 1d12h, max_bytes: 1.5 GB}", true},
		{"", "dead_letters: {max_bytes: 4096}", true},
		{"", "dead_letters: {max_bytes: much}", false},
		{"", "dead_letters: {max_number: -1}", false},
		{"", "dead_letters: {max_number: '5'}", false},
		{"", "metrics: {per_rule: no}", false},
		{"", "metrics: {per_rule: false}", true},
		{"", "log: {level: warn, format: json}", true},
		{"", "log: {level: loud}", false},
		{"", "log: {level: null}", false},
		{"", "rules: rules/*.yaml", false},
		{"", "colour: red", false},

		{sinkFields, "concurrency: 16", true},
		{sinkFields, "concurrency: 0", false},
		{sinkFields, "concurrency: 1.5", false},
		{sinkFields, "concurrency: '16'", false},
		{sinkFields, "concurency: 16", false},
		{sinkFields, "rate: 100/s", true},
		{sinkFields, "rate: 0.5/m", true},
		{sinkFields, "rate: 1e3 / h", true},
		{sinkFields, "rate: 100", false},
		{sinkFields, "rate: 100/d", false},
		{sinkFields, "rate: -1/s", false},
		{sinkFields, "retry: {initial: 1s, multiplier: 1.5, max: 10m, jitter: 0, max_attempts: 3, max_age: 0}", true},
		{sinkFields, "retry: {jitter: 2}", false},
		{sinkFields, "retry: {multiplier: 0.5}", false},
		{sinkFields, "retry: {max_age: -1s}", false},
		{sinkFields, "retry: {max_age: 1h30m}", true},
		{sinkFields, "retry: {max_age: .5h}", true},
		{sinkFields, "retry: {max_age: ''}", false},
		{sinkFields, "retry: {max_age: 1w}", false},
		{sinkFields, "breaker: off", true},
		{sinkFields, "breaker: {failures: 5, open: 10s, probes: 1}", true},
		{sinkFields, "breaker: on", false},
		{sinkFields, "breaker: {failures: 0}", false},
		{sinkFields, "max_owed: -1", false},
		{sinkFields, "nats: {url: 'nats://h'}", false},
		{sinkFields, "was: t", true},
		{sinkFields, "was: [t, u]", true},
		{sinkFields, "was: 1", false},
		{natsFields, "jetstream: true, stream: A", true},
		{natsFields, "jetstream: yes please", false},
		{natsFields, "cloudevents: binary", true},
		{natsFields, "cloudevents: batched", false},
		{natsFields, "user: u, password: p", true},
		{natsFields, "token: {env: A_SECRET}", true},
		{natsFields, "max_pending: 0", false},
		{natsFields, "webhook: {}", false},
		{ruleFields, "when: true", true},
		{ruleFields, "when: 'event.created'", true},
		{ruleFields, "when: {a: b}", false},
		{ruleFields, "order: none", true},
		{ruleFields, "order: any", false},
		{ruleFields, "on_failure: supersede", true},
		{ruleFields, "on_failure: give up", false},
		{ruleFields, "vars: {a: '1', b: 2}", true},
		{ruleFields, "vars: ['1']", false},
		{ruleFields, "group: revision", true},
		{ruleFields, "group: transaction", false},
		{ruleFields, "description: 1", false},
		{sendFields, "body: '{\"a\": 1}', headers: {X-A: '\"b\"'}", true},
		{sendFields, "body: {a: 1}", false},
		{sendFields, "headers: {X-A: [b]}", false},
		{sendFields, "name: t", true},
		{sendFields, "sinks: t", false},
	}
	configSchema, rulesSchema := compile(t, schema.Config()), compile(t, schema.Rules())
	for _, tt := range tests {
		s, text := configSchema, tt.fields+"\n"
		var keyhook error
		if tt.template == "" {
			_, keyhook = loadConfig(t, text)
		} else {
			s, text = rulesSchema, fmt.Sprintf(tt.template, tt.fields)
			_, keyhook = loadRules(text)
		}
		if err := accepts(t, s, text); (err == nil) != tt.fine {
			t.Errorf("%s: the schema says %v", text, err)
		}
		if (keyhook == nil) != tt.fine {
			t.Errorf("%s: keyhook says %v", text, keyhook)
		}
	}
}

// What is about more than one field is known to the schema as well. keyhook finds
// the first of them where it makes the connection.
func TestTheSchemaKnowsWhatExcludesWhat(t *testing.T) {
	s := compile(t, schema.Rules())
	for _, text := range []string{
		fmt.Sprintf(natsFields, "user: u, password: p, token: t"),
		fmt.Sprintf(natsFields, "nkey: SU, creds_file: f"),
		"sinks: [{name: s, nats: {url: 'nats://h'}, webhook: {url: 'http://h/'}}]",
	} {
		if err := accepts(t, s, text); err == nil {
			t.Errorf("%s passes the schema", text)
		}
	}
}

func TestTheSchemaKnowsWhatIsRequired(t *testing.T) {
	s := compile(t, schema.Rules())
	for _, text := range []string{
		"sinks: [{webhook: {url: 'http://h/'}}]", "sinks: [{name: s}]", "sinks: [{name: s, webhook: {}}]", "sinks: [{name: s, nats: {}}]",
		"rules: [{name: r, keys: /a}]", "rules: [{name: r, send: {sink: s}}]", "rules: [{keys: /a, send: {sink: s}}]", "rules: [{name: r, keys: /a, send: {body: a}}]",
	} {
		if err := accepts(t, s, text); err == nil {
			t.Errorf("%s passes the schema", text)
		}
		if _, err := loadRules(text); err == nil {
			t.Errorf("%s passes", text)
		}
	}
}

// The defaults that the reference tells are those that hold: a file that writes
// all of them means the same as one that writes none.
func TestTheDefaultsAreThoseThatHold(t *testing.T) {
	short, err := loadConfig(t, "etcd: {}\n")
	if err != nil {
		t.Fatal(err)
	}
	text := defaults(t, schema.Config())
	long, err := loadConfig(t, text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, c := range []*config.Config{short, long} { // each lies in a directory of its own
		for i := range c.Rules {
			c.Rules[i] = config.Glob{Pattern: filepath.Base(filepath.Dir(c.Rules[i].Pattern)) + "/" + filepath.Base(c.Rules[i].Pattern)}
		}
		c.Path, c.Checkpoint.Dir = "", filepath.Base(c.Checkpoint.Dir)
	}
	if !reflect.DeepEqual(short, long) {
		t.Errorf("without anything:\n%+v\nwith every default:\n%+v", short, long)
	}
}

func TestTheDefaultsOfRulesAreThoseThatHold(t *testing.T) {
	base := "sinks:\n  - {name: w, webhook: {url: 'http://h/'%s}%s}\n  - {name: n, nats: {url: 'nats://h'%s}%s}\n" +
		"rules: [{name: r, keys: /a, send: [{sink: w}, {sink: n, subject: \"'a'\"}]%s}]\n"
	short, err := loadRules(fmt.Sprintf(base, "", "", "", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	file := properties(t, schema.Rules())
	sink := inner(file["sinks"])
	text := fmt.Sprintf(base, flow(inner(sink["webhook"])), flow(sink), flow(inner(sink["nats"])), flow(sink), flow(inner(file["rules"])))
	long, err := loadRules(text)
	if err != nil {
		var problems strictyaml.Problems
		errors.As(err, &problems)
		t.Fatalf("%v\n%s", err, text)
	}
	one, other := short.Sinks(), long.Sinks()
	for i := range one {
		one[i].Position, other[i].Position = strictyaml.Position{}, strictyaml.Position{}
		one[i].Breaker = other[i].Breaker // left to the dispatcher, where there is none
		if !reflect.DeepEqual(one[i], other[i]) {
			t.Errorf("without anything:\n%+v\nwith every default:\n%+v", one[i], other[i])
		}
	}
	a, b := short.Rules()[0], long.Rules()[0]
	if a.Order != b.Order || a.OnFailure != b.OnFailure {
		t.Errorf("without anything:\n%+v\nwith every default:\n%+v", a, b)
	}
	if !strings.Contains(text, "max_attempts: 0") || !strings.Contains(text, "order: key") {
		t.Errorf("the defaults are not all there:\n%s", text)
	}
}
