package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"keyhook/internal/inbox"
	"keyhook/internal/inboxtest"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/test/lab"
)

// slackMessage is what an incoming webhook takes, as far as it is used.
type slackMessage struct {
	Text string `json:"text"`
}

// pagerDutyEvent is an event of the Events API v2, whole.
type pagerDutyEvent struct {
	RoutingKey  string `json:"routing_key"`
	EventAction string `json:"event_action"`
	DedupKey    string `json:"dedup_key"`
	Client      string `json:"client"`
	ClientURL   string `json:"client_url"`
	Payload     *struct {
		Summary       string         `json:"summary"`
		Source        string         `json:"source"`
		Severity      string         `json:"severity"`
		Timestamp     string         `json:"timestamp"`
		Component     string         `json:"component"`
		Group         string         `json:"group"`
		Class         string         `json:"class"`
		CustomDetails map[string]any `json:"custom_details"`
	} `json:"payload"`
	Links  []map[string]string `json:"links"`
	Images []map[string]string `json:"images"`
}

// check returns what PagerDuty would answer 400 to, by its documented schema.
func (e *pagerDutyEvent) check() error {
	switch {
	case len(e.RoutingKey) != 32:
		return fmt.Errorf("routing_key has %d characters, not 32", len(e.RoutingKey))
	case !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, e.EventAction):
		return fmt.Errorf("event_action is %q", e.EventAction)
	case e.EventAction != "trigger" && e.DedupKey == "" || len(e.DedupKey) > 255:
		return fmt.Errorf("dedup_key is %q", e.DedupKey)
	case e.Payload == nil:
		if e.EventAction == "trigger" {
			return fmt.Errorf("payload is missing")
		}
		return nil
	case e.Payload.Summary == "" || len(e.Payload.Summary) > 1024 || e.Payload.Source == "":
		return fmt.Errorf("summary is %q, source is %q", e.Payload.Summary, e.Payload.Source)
	case !slices.Contains([]string{"critical", "error", "warning", "info"}, e.Payload.Severity):
		return fmt.Errorf("severity is %q", e.Payload.Severity)
	}
	if _, err := time.Parse(time.RFC3339, e.Payload.Timestamp); err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	return nil
}

// judge answers as Slack and PagerDuty do, and refuses what these would.
func judge(r inbox.Request) inbox.Reply {
	var err error
	switch r.Path {
	case "/slack":
		var m slackMessage
		if err = strict(r.Body, &m); err == nil && (m.Text == "" || strings.ContainsAny(m.Text, "<>")) {
			err = fmt.Errorf("the text is %q", m.Text)
		}
		if err == nil {
			return inbox.Reply{Status: http.StatusOK, Body: "ok"}
		}
	case "/v2/enqueue":
		var e pagerDutyEvent
		if err = strict(r.Body, &e); err == nil {
			err = e.check()
		}
		if err == nil {
			return inbox.Reply{Status: http.StatusAccepted, Body: `{"status":"success"}`}
		}
	default: // what Alertmanager tells
		return inbox.Reply{Status: http.StatusOK}
	}
	return inbox.Reply{Status: http.StatusBadRequest, Body: err.Error()}
}

// strict decodes JSON that has no fields but those of v.
func strict(body []byte, v any) error {
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// An application goes down and comes back. Slack gets both messages, PagerDuty a
// trigger and a resolve of one incident, in order although it did not take the
// trigger at first; and a real Alertmanager shows the alert, tells others of it,
// and resolves it.
func TestAlerting(t *testing.T) {
	program, err := lab.BuildAlertmanager(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 1)
	box := inboxtest.Start(t, inbox.Config{Reply: func(r inbox.Request) inbox.Reply {
		if r.Path == "/v2/enqueue" {
			select {
			case refused <- struct{}{}: // once
				return inbox.Reply{Status: http.StatusTooManyRequests}
			default:
			}
		}
		return judge(r)
	}})
	alertmanager := lab.StartAlertmanager(t, program, box.URL()+"/from-alertmanager")
	t.Setenv("SLACK_WEBHOOK_URL", box.URL()+"/slack")
	t.Setenv("ALERTMANAGER_URL", alertmanager.URL+"/api/v2/alerts")
	s := start(t, "alerting", func(spec *rules.SinkSpec) {
		if spec.Name == "pagerduty" {
			w := *spec.Webhook
			w.URL = strictyaml.NewSecret(strings.Replace(w.URL.Reveal(), "https://events.pagerduty.com", box.URL(), 1))
			spec.Webhook = &w
		}
	})

	s.put("/apps/checkout/health", `{"status":"ok"}`)
	s.put("/apps/checkout/health", `{"status":"down","message":"p99 > 2s & rising"}`)
	s.put("/apps/checkout/health", `{"status":"down","message":"p99 > 4s & rising"}`)
	var alerts []alert
	s.eventually("Alertmanager shows the alert", func() bool {
		alerts = active(t, alertmanager.URL)
		return len(alerts) == 1
	})
	a := alerts[0]
	if a.Labels["alertname"] != "ApplicationDown" || a.Labels["app"] != "checkout" || a.Status.State != "active" ||
		a.Annotations["summary"] != "checkout is down: p99 > 2s & rising" || time.Until(a.EndsAt) < 24*time.Hour {
		t.Errorf("Alertmanager shows %+v", a)
	}
	// It has told the receiver, so that the resolution will not overtake it.
	s.eventually("Alertmanager notifies", func() bool { return len(notified(t, box)) >= 1 })

	s.put("/apps/checkout/health", `{"status":"ok"}`)
	s.eventually("Alertmanager has resolved the alert", func() bool { return len(active(t, alertmanager.URL)) == 0 })
	s.eventually("Alertmanager notifies of the end", func() bool { return slices.Contains(notified(t, box), "resolved") })
	s.eventually("all has arrived", func() bool { return len(accepted(box, "/slack")) == 2 && len(accepted(box, "/v2/enqueue")) == 2 })

	if got, want := notified(t, box), []string{"firing", "resolved"}; !slices.Equal(got, want) {
		t.Errorf("Alertmanager told of %q", got)
	}
	if got, want := accepted(box, "/slack"), []string{
		`{"text":":red_circle: checkout is down: p99 &gt; 2s &amp; rising"}`,
		`{"text":":large_green_circle: checkout is back"}`,
	}; !slices.Equal(got, want) {
		t.Errorf("Slack has %q", got)
	}
	var actions []string
	for _, body := range accepted(box, "/v2/enqueue") {
		var e pagerDutyEvent
		if err := strict([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		actions = append(actions, e.EventAction+" "+e.DedupKey)
	}
	if want := []string{"trigger etcd:/apps/checkout/health", "resolve etcd:/apps/checkout/health"}; !slices.Equal(actions, want) {
		t.Errorf("PagerDuty has %q", actions)
	}
	s.settled(3 * 2)
}

// The receivers of the test refuse what the real ones would.
func TestTheReceiversJudge(t *testing.T) {
	const payload = `"payload":{"summary":"s","source":"k","severity":"critical","timestamp":"2026-01-02T03:04:05Z"}`
	const key = `"routing_key":"0123456789abcdef0123456789abcdef"`
	for name, tt := range map[string]struct {
		path, body string
		want       int
	}{
		"a message":              {"/slack", `{"text":"x"}`, 200},
		"no text":                {"/slack", `{"text":""}`, 400},
		"no JSON":                {"/slack", `x`, 400},
		"markup":                 {"/slack", `{"text":"<!channel>"}`, 400},
		"another field":          {"/slack", `{"text":"x","txt":"y"}`, 400},
		"a trigger":              {"/v2/enqueue", `{` + key + `,"event_action":"trigger",` + payload + `}`, 202},
		"a resolve":              {"/v2/enqueue", `{` + key + `,"event_action":"resolve","dedup_key":"k"}`, 202},
		"a resolve of nothing":   {"/v2/enqueue", `{` + key + `,"event_action":"resolve"}`, 400},
		"a trigger of nothing":   {"/v2/enqueue", `{` + key + `,"event_action":"trigger"}`, 400},
		"no key":                 {"/v2/enqueue", `{"event_action":"trigger",` + payload + `}`, 400},
		"no action":              {"/v2/enqueue", `{` + key + `,"event_action":"fire",` + payload + `}`, 400},
		"an unknown severity":    {"/v2/enqueue", `{` + key + `,"event_action":"trigger",` + strings.Replace(payload, "critical", "bad", 1) + `}`, 400},
		"a time that is no time": {"/v2/enqueue", `{` + key + `,"event_action":"trigger",` + strings.Replace(payload, "2026", "26", 1) + `}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			if got := judge(inbox.Request{Path: tt.path, Body: []byte(tt.body)}); got.Status != tt.want {
				t.Errorf("answered %d: %s", got.Status, got.Body)
			}
		})
	}
}

// alert is an alert as Alertmanager's API shows it.
type alert struct {
	Labels, Annotations map[string]string
	EndsAt              time.Time
	Status              struct{ State string }
}

// active returns the alerts that Alertmanager shows.
func active(t *testing.T, url string) []alert {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v2/alerts", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var alerts []alert
	if err := json.NewDecoder(resp.Body).Decode(&alerts); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return alerts
}

// notified returns the states that Alertmanager has told its receiver, each once.
func notified(t *testing.T, box *inbox.Server) (states []string) {
	t.Helper()
	for _, body := range accepted(box, "/from-alertmanager") {
		var n struct{ Status string }
		if err := json.Unmarshal([]byte(body), &n); err != nil {
			t.Fatal(err)
		}
		states = append(states, n.Status)
	}
	return slices.Compact(states)
}

// accepted returns the bodies of the requests to path that were accepted.
func accepted(box *inbox.Server, path string) (bodies []string) {
	for _, r := range box.Requests() {
		if r.Path == path && r.Acknowledged() {
			bodies = append(bodies, string(r.Body))
		}
	}
	return bodies
}
