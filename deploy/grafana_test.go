package deploy_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what is looked at of Grafana's model of one.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
		}
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Panels []dashboardPanel
}

type dashboardPanel struct {
	ID                       int
	Type, Title, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID        string
		Datasource   struct{ UID string }
		Expr         string
		LegendFormat string
	}
}

func newDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "grafana/keyhook.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDashboardIsReadable(t *testing.T) {
	d := newDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 {
		t.Errorf("%q, %q, schema %d", d.UID, d.Title, d.SchemaVersion)
	}
	units := []string{"none", "short", "s", "ops", "bytes"}
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is another panel's as well", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is wider than the page", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			if !strings.HasSuffix(p.Title, "?") {
				t.Errorf("the row %q is no question", p.Title)
			}
			continue
		}
		if p.Title == "" || p.Description == "" || !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
			t.Errorf("%q: the description is %q, the unit %q", p.Title, p.Description, p.FieldConfig.Defaults.Unit)
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: the data are from %q, %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		refs := make(map[string]bool)
		for _, q := range p.Targets {
			if refs[q.RefID] || q.Datasource.UID != "${datasource}" {
				t.Errorf("%s: the query %s is there twice, or has a source of its own", p.Title, q.RefID)
			}
			refs[q.RefID] = true
		}
	}
}

var (
	variable      = regexp.MustCompile(`\$(?:\{(\w+)\}|(\w+))`)
	legendLabel   = regexp.MustCompile(`\{\{(\w+)\}\}`)
	labelValues   = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)
	rateInterval  = strings.NewReplacer("$__rate_interval", "5m", "$__range", "3h")
	grafanasOwn   = []string{"__rate_interval", "__range"}
	ofTheSelected = []string{"job", "instance"}
)

// Each query of the dashboard asks for what keyhook has, of the keyhooks that
// are selected.
func TestTheDashboardAsksForWhatKeyhookHas(t *testing.T) {
	d, known := newDashboard(t), knownMetrics(t)
	var variables, expressions, where, legends []string
	add := func(place, expr, legend string) {
		for _, m := range variable.FindAllStringSubmatch(expr, -1) {
			if name := m[1] + m[2]; !slices.Contains(variables, name) && !slices.Contains(grafanasOwn, name) {
				t.Errorf("%s: there is no variable %s", place, name)
			}
		}
		expressions, where, legends = append(expressions, rateInterval.Replace(expr)), append(where, place), append(legends, legend)
	}
	for _, v := range d.Templating.List {
		var query struct{ Query string }
		if v.Type == "query" {
			if err := json.Unmarshal(v.Query, &query); err != nil {
				t.Fatal(err)
			}
			parts := labelValues.FindStringSubmatch(query.Query)
			if parts == nil {
				t.Fatalf("the variable %s: %s", v.Name, query.Query)
			}
			add("the variable "+v.Name, parts[1], "{{"+parts[2]+"}}")
		}
		variables = append(variables, v.Name)
	}
	for _, a := range d.Annotations.List {
		add("the annotation "+a.Name, a.Expr, "")
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			add(fmt.Sprintf("%s, query %s", p.Title, q.RefID), q.Expr, q.LegendFormat)
		}
	}
	for i, s := range selections(t, expressions) {
		labels := known.check(t, where[i], s)
		for _, m := range legendLabel.FindAllStringSubmatch(legends[i], -1) {
			if !slices.Contains(labels, m[1]) {
				t.Errorf("%s: nothing has the label %s of the legend", where[i], m[1])
			}
		}
		for _, m := range s.Metrics {
			if strings.HasPrefix(where[i], "the variable ") {
				continue
			}
			for _, label := range ofTheSelected {
				if !slices.ContainsFunc(m.Matchers, func(m struct{ Label, Op, Value string }) bool { return m.Label == label && m.Value == "$"+label }) {
					t.Errorf("%s: %s is asked for of any %s", where[i], m.Name, label)
				}
			}
		}
	}
}

// What keyhook measures can be seen.
func TestTheDashboardShowsEveryMetric(t *testing.T) {
	page := read(t, "grafana/keyhook.json")
	for name := range knownMetrics(t) {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "keyhook_") && name != "keyhook_build_info" && !strings.Contains(page, base) {
			t.Errorf("no panel shows %s", name)
		}
	}
}
