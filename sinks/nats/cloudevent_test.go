package nats_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"keyhook"
	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

func event(body string) *keyhook.Delivery {
	d := message(1, "events.a", body)
	d.Message.ContentType = "application/cloudevents+json; charset=utf-8"
	return d
}

// In structured mode a CloudEvent goes out as it is, and its type says so.
func TestStructuredMode(t *testing.T) {
	server := natstest.Start(t, nil)
	got := listen(t, server.Client(), "events.>")
	s := newSink(t, nats.Config{URL: server.URL()})
	const body = `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}`
	mustSend(t, s, event(body))
	m := next(t, got)
	if string(m.Data) != body || m.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" || len(m.Header) != 2 {
		t.Errorf("got %s with %v", m.Data, m.Header)
	}
}

// What arrives in binary mode is, attribute by attribute, what the SDK reads
// from the structured form.
func TestBinaryMode(t *testing.T) {
	server := natstest.Start(t, nil)
	got := listen(t, server.Client(), "events.>")
	s := newSink(t, nats.Config{URL: server.URL(), Binary: true})
	for name, tt := range map[string]struct {
		more string // members beside the required ones
		data string
		want map[string]string // encoded values
	}{
		"the default": {
			`"subject":"/a/b","time":"2026-01-02T03:04:05.000000006Z","sequence":"42","datacontenttype":"application/json","data":{"a": [1, 2.50, "ü"]}`,
			`{"a": [1, 2.50, "ü"]}`,
			map[string]string{"subject": "/a/b", "time": "2026-01-02T03:04:05.000000006Z", "sequence": "42", "datacontenttype": "application/json"},
		},
		// The example of the specification.
		"an encoded value":          {`"subject":"Euro € 😀"`, "", map[string]string{"subject": "Euro%20%E2%82%AC%20%F0%9F%98%80"}},
		"quotes and percents":       {`"subject":"\"100%\" ~!"`, "", map[string]string{"subject": "%22100%25%22%20~!"}},
		"control characters":        {`"subject":"a\u0000b\r\nc\u0085d"`, "", map[string]string{"subject": "a%00b%0D%0Ac%C2%85d"}},
		"numbers and booleans":      {`"count":-7,"flag":true,"other":false`, "", map[string]string{"count": "-7", "flag": "true", "other": "false"}},
		"an attribute that is null": {`"subject":null`, "", map[string]string{}},
		"JSON unless it says":       {`"data":"text"`, `"text"`, map[string]string{"datacontenttype": "application/json"}},
		"a suffix of JSON":          {`"datacontenttype":"application/vnd.x+json","data":"text"`, `"text"`, map[string]string{"datacontenttype": "application/vnd.x+json"}},
		"text":                      {`"datacontenttype":"text/plain","data":"a\nb"`, "a\nb", map[string]string{"datacontenttype": "text/plain"}},
		"bytes":                     {`"datacontenttype":"image/png","data_base64":"AP8="`, "\x00\xff", map[string]string{"datacontenttype": "image/png"}},
		"no data":                   {`"subject":"x"`, "", map[string]string{"subject": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"specversion":"1.0","id":"1-ab","source":"/etcd/prod","type":"keyhook.etcd.put",` + tt.more + `}`
			mustSend(t, s, event(body))
			m := next(t, got)
			if string(m.Data) != tt.data {
				t.Errorf("data %q, want %q", m.Data, tt.data)
			}
			tt.want["specversion"], tt.want["id"], tt.want["source"], tt.want["type"] = "1.0", "1-ab", "/etcd/prod", "keyhook.etcd.put"
			for name, value := range tt.want {
				if v := m.Header.Values("ce-" + name); len(v) != 1 || v[0] != value {
					t.Errorf("ce-%s is %q, want %q", name, v, value)
				}
			}
			if len(m.Header) != len(tt.want)+1 || m.Header.Get("Content-Type") != "" { // and Nats-Msg-Id
				t.Errorf("headers %v", m.Header)
			}

			if strings.Contains(name, "control") || strings.Contains(name, "null") {
				return // which the SDK does not take
			}
			sdk := cloudevents.New()
			if err := json.Unmarshal([]byte(body), &sdk); err != nil {
				t.Fatal(err)
			}
			known := map[string]any{"id": sdk.ID(), "source": sdk.Source(), "type": sdk.Type(), "specversion": sdk.SpecVersion(), "subject": sdk.Subject()}
			for name, value := range sdk.Extensions() {
				known[name] = value
			}
			for name, value := range known {
				decoded, err := url.PathUnescape(m.Header.Get("ce-" + name))
				if text := asText(t, value); err != nil || decoded != text {
					t.Errorf("%s decodes to %q (%v), the SDK says %q", name, decoded, err, text)
				}
			}
			// The SDK takes a string for text where the type ends in +json.
			if string(sdk.Data()) != string(m.Data) && !strings.Contains(name, "suffix") {
				t.Errorf("data %q, the SDK says %q", m.Data, sdk.Data())
			}
		})
	}
}

func asText(t *testing.T, v any) string {
	t.Helper()
	if s, ok := v.(string); ok {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhatIsNoCloudEventIsRejectedInBinaryMode(t *testing.T) {
	s := newSink(t, nats.Config{URL: "nats://127.0.0.1:1", Binary: true})
	for body, want := range map[string]string{
		`[]`: "not a JSON object", `{`: "not a JSON object", ``: "not a JSON object",
		`{"specversion":"1.0","source":"/s","type":"t"}`:                                         "has no id",
		`{"specversion":"1.0","id":"1","source":"","type":"t"}`:                                  "has no source",
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","Bad":"x"}`:                      `an attribute "Bad"`,
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","a":{"b":1}}`:                    "not a string, a boolean or an integer",
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","a":1.5}`:                        "not an integer",
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"!"}`:              "not base64",
		`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AA==","data":""}`: "both",
	} {
		wantError(t, send(t.Context(), s, event(body)), sinks.Rejected, want)
	}
	d := event(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`)
	d.Message.Headers = []keyhook.Header{{Name: "CE-Type", Value: "mine"}}
	wantError(t, send(t.Context(), s, d), sinks.Rejected, "is an attribute of the CloudEvent")
}

// A rule's own body is not a CloudEvent, in either mode.
func TestOtherBodiesStayAsTheyAre(t *testing.T) {
	server := natstest.Start(t, nil)
	got := listen(t, server.Client(), "events.>")
	s := newSink(t, nats.Config{URL: server.URL(), Binary: true})
	d := message(1, "events.a", `{"specversion":"1.0"}`)
	d.Message.ContentType = "application/json"
	mustSend(t, s, d)
	if m := next(t, got); string(m.Data) != `{"specversion":"1.0"}` || m.Header.Get("Content-Type") != "application/json" || m.Header.Get("Keyhook-Key") == "" {
		t.Errorf("got %s with %v", m.Data, m.Header)
	}
}

// No event can break the protocol of headers.
func FuzzBinaryMode(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"\u0000","data":{"a":1}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","a": 1 , "data_base64":"AA=="}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		headers, _, err := nats.BinaryMode(event)
		if err != nil {
			return
		}
		for _, h := range headers {
			if strings.Trim(h.Name, "ce-abdfghijklmnopqrstuvwxyz0123456789") != "" {
				t.Errorf("name %q", h.Name)
			}
			for i := range len(h.Value) {
				if c := h.Value[i]; c <= ' ' || c > '~' || c == '"' {
					t.Errorf("value %q", h.Value)
				}
			}
		}
	})
}
