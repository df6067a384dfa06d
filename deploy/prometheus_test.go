package deploy_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const (
	alertsFile     = "prometheus/keyhook.rules.yaml"
	alertTestsFile = "prometheus/keyhook.rules.test.yaml"
)

type alert struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(read(t, alertsFile)), &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Prometheus takes the files, and each alert fires when it should.
func TestPrometheusTakesTheAlerts(t *testing.T) {
	if said, err := promtool.run(t, "check", "rules", "--lint=all", "--lint-fatal", alertsFile); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := promtool.run(t, "test", "rules", alertTestsFile); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	// The configuration stands beside the rules and a token, as it will be used.
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yaml", "keyhook.rules.yaml"} {
		write(t, filepath.Join(dir, name), read(t, filepath.Join("prometheus", name)))
	}
	write(t, filepath.Join(dir, "admin_token"), "s3cret")
	if said, err := promtool.run(t, "check", "config", filepath.Join(dir, "prometheus.yaml")); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestEachAlertHasATestInWhichItFires(t *testing.T) {
	var file struct {
		Tests []struct {
			Rules []struct {
				Name string `yaml:"alertname"`
				Exp  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, alertTestsFile)), &file); err != nil {
		t.Fatal(err)
	}
	var fires []string
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			if len(r.Exp) > 0 {
				fires = append(fires, r.Name)
			}
		}
	}
	for _, a := range alerts(t) {
		if !slices.Contains(fires, a.Alert) {
			t.Errorf("no test sees %s fire", a.Alert)
		}
	}
}

// templated is a label in the text of an alert.
var templated = regexp.MustCompile(`\$labels\.(\w+)`)

func TestTheAlertsAskForWhatKeyhookHas(t *testing.T) {
	known, all := knownMetrics(t), alerts(t)
	var expressions []string
	for _, a := range all {
		expressions = append(expressions, a.Expr)
	}
	for i, s := range selections(t, expressions) {
		labels := known.check(t, all[i].Alert, s)
		for _, text := range all[i].Annotations {
			for _, m := range templated.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: nothing has a label %s", all[i].Alert, m[1])
				}
			}
		}
	}
}

// Whoever is called by an alert finds out what to do.
func TestEachAlertHasItsPlaceInTheGuide(t *testing.T) {
	guide := read(t, "../docs/alerts.md")
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(guide, -1) {
		sections = append(sections, m[1])
	}
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if want := "docs/alerts.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want {
			t.Errorf("%s: the runbook is %q, not %s", a.Alert, a.Annotations["runbook"], want)
		}
		if a.Labels["severity"] != "critical" && a.Labels["severity"] != "warning" {
			t.Errorf("%s: the severity is %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s does not say what is wrong", a.Alert)
		}
	}
	if !slices.Equal(sections, names) {
		t.Errorf("the guide has sections\n%q, the alerts are\n%q", sections, names)
	}
}
