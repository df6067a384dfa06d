package rules

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"keyhook"
)

// TestCloudEvents lets the SDK read the default message of awkward changes.
func TestCloudEvents(t *testing.T) {
	set := oneRule(t, "name: r\nkeys: '{key...}'\nsend: {sink: hook}", Options{})
	large := strings.Repeat("\x00\"\\é", 300_000) // 1.5 MiB, the worst to escape
	for name, ev := range map[string]*keyhook.Event{
		"plain":          put("/a", "x"),
		"empty value":    put("/a", ""),
		"large value":    put("/a", large),
		"large binary":   put("/a", strings.Repeat("\xff", 3<<19)),
		"binary key":     put("\xff\x00\xfe", "x"),
		"control in key": put("a\nb\x7f%\u0085", "x"),
		"spaces in key":  put("a b.*>\"\\", "x"),
		"not ASCII":      put("/ü/☃/%20", "☃"),
		"delete": {
			Type: keyhook.Delete, Key: []byte("/a"), Revision: math.MaxInt64, Time: testTime,
			Prev: &keyhook.KeyValue{Value: []byte("\xff"), Revision: 6, CreateRevision: 5, Version: 2, Lease: 0x694d9f3},
		},
		"lease": {Type: keyhook.Put, Key: []byte("/a"), Value: []byte("x"), Revision: 7, CreateRevision: 7, Version: 1, Lease: 0x694d9f3, Time: testTime},
	} {
		t.Run(name, func(t *testing.T) {
			var res Result
			set.Evaluate(Source{Name: "/etcd/prod", Epoch: 3}, ev, &res)
			d := res.Deliveries[0]
			if d.Rejected != nil || d.Message.ContentType != "application/cloudevents+json" {
				t.Fatalf("rejected: %+v, content type %s", d.Rejected, d.Message.ContentType)
			}
			var got cloudevents.Event
			if err := json.Unmarshal(d.Message.Body, &got); err != nil {
				t.Fatal(err)
			}
			if err := got.Validate(); err != nil {
				t.Fatal(err)
			}
			if got.ID() != d.ID || got.ID() != keyhook.DeliveryID("/etcd/prod", 3, ev, "r", "hook") || got.Source() != "/etcd/prod" || !got.Time().Equal(testTime) {
				t.Fatalf("wrong attributes: %s", got)
			}
			wantType := "keyhook.etcd.put"
			if ev.Type == keyhook.Delete {
				wantType = "keyhook.etcd.delete"
			}
			if got.Type() != wantType || got.DataContentType() != "application/json" || got.SpecVersion() != "1.0" {
				t.Fatalf("wrong attributes: %s", got)
			}
			checkSubject(t, got.Subject(), ev.Key)
			checkData(t, got.Data(), ev)
		})
	}
}

func checkSubject(t *testing.T, subject string, key []byte) {
	t.Helper()
	plain := utf8.Valid(key) && !strings.ContainsAny(string(key), "\n\x00\x7f\u0085")
	if plain {
		if subject != string(key) {
			t.Fatalf("subject %q, want the key %q", subject, key)
		}
		return
	}
	var decoded []byte
	for i := 0; i < len(subject); i++ {
		if subject[i] != '%' {
			decoded = append(decoded, subject[i])
			continue
		}
		decoded = append(decoded, unhex(subject[i+1])<<4|unhex(subject[i+2]))
		i += 2
	}
	if !bytes.Equal(decoded, key) {
		t.Fatalf("subject %q is not the key %q", subject, key)
	}
}

func unhex(c byte) byte { return byte(strings.IndexByte("0123456789ABCDEF", c)) }

func checkData(t *testing.T, data []byte, ev *keyhook.Event) {
	t.Helper()
	var got map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	text := func(m map[string]any, name string) []byte {
		if s, ok := m[name].(string); ok {
			return []byte(s)
		}
		s, ok := m[name+"_base64"].(string)
		if !ok {
			t.Fatalf("neither %s nor %s_base64 in %s", name, name, data)
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || utf8.Valid(b) {
			t.Fatalf("%s_base64 is %q (%v)", name, b, err)
		}
		return b
	}
	if !bytes.Equal(text(got, "key"), ev.Key) || !bytes.Equal(text(got, "value"), ev.Value) || got["type"] != ev.Type.String() {
		t.Fatal("wrong type, key or value")
	}
	state := func(m map[string]any, revision, create, version, lease int64) {
		for name, want := range map[string]int64{"revision": revision, "create_revision": create, "version": version} {
			if n, ok := m[name].(json.Number); !ok || n.String() != strconv.FormatInt(want, 10) {
				t.Fatalf("%s is %v, want %d", name, m[name], want)
			}
		}
		switch s, ok := m["lease"]; {
		case lease == 0 && ok:
			t.Fatalf("a lease of 0 is there as %v", s)
		case lease != 0 && s != "694d9f3":
			t.Fatalf("lease is %v", s)
		}
	}
	state(got, ev.Revision, ev.CreateRevision, ev.Version, ev.Lease)
	prev, ok := got["prev"].(map[string]any)
	if ok != (ev.Prev != nil) {
		t.Fatalf("prev is %v", got["prev"])
	}
	if ok {
		if !bytes.Equal(text(prev, "value"), ev.Prev.Value) {
			t.Fatal("wrong prev.value")
		}
		state(prev, ev.Prev.Revision, ev.Prev.CreateRevision, ev.Prev.Version, ev.Prev.Lease)
	}
}

// TestLargeValues: what etcd takes can be read and sent on.
func TestLargeValues(t *testing.T) {
	set := oneRule(t, `
name: r
keys: /{id}
when: event.value.endsWith("}") && event.json.s.startsWith("x") && event.value != event.?last.value.orValue("")
send:
  - {sink: hook, name: text, body: '"value: " + event.value'}
  - {sink: hook, name: json, body: '{"json": event.json, "value": event.value, "bytes": event.bytes, "prev": event.?prev.value}'}
`, Options{})
	value := `{"s": "x` + strings.Repeat(`\u0000`, 3<<20/2/6) + `"}`
	ev := put("/a", value)
	ev.Prev = &keyhook.KeyValue{Value: []byte(strings.Repeat("\x01", 3<<19)), Revision: 6, CreateRevision: 5, Version: 1}
	ev.Last = ev.Prev
	var res Result
	set.Evaluate(Source{}, ev, &res)
	if len(res.Deliveries) != 2 || len(res.Errors) > 0 {
		t.Fatalf("%d deliveries, errors %v", len(res.Deliveries), res.Errors)
	}
	for _, d := range res.Deliveries {
		if d.Rejected != nil {
			t.Fatalf("%s: %+v", d.Send, d.Rejected)
		}
	}
	if got := string(res.Deliveries[0].Message.Body); got != "value: "+value {
		t.Fatal("the text is another")
	}
	if !json.Valid(res.Deliveries[1].Message.Body) {
		t.Fatal("not JSON")
	}
}

// TestAppendJSONRejects what JSON cannot say.
func TestAppendJSONRejects(t *testing.T) {
	adapter := types.DefaultTypeAdapter
	deep := ref.Val(types.Int(1))
	for range 200 {
		deep = types.NewRefValList(adapter, []ref.Val{deep})
	}
	for name, v := range map[string]ref.Val{
		"NaN":            types.Double(math.NaN()),
		"infinity":       types.Double(math.Inf(-1)),
		"int key":        types.NewRefValMap(adapter, map[ref.Val]ref.Val{types.Int(1): types.Int(1)}),
		"key not UTF-8":  types.NewRefValMap(adapter, map[ref.Val]ref.Val{types.String("\xff"): types.Int(1)}),
		"text not UTF-8": types.String("\xff"),
		"a type":         types.IntType,
		"an error":       types.NewErr("x"),
		"too deep":       deep,
		"in a list":      types.NewRefValList(adapter, []ref.Val{types.Double(math.NaN())}),
	} {
		if b, err := appendJSON(nil, v); err == nil {
			t.Errorf("%s became %s", name, b)
		}
	}
}

// FuzzJSON: a document that is read and written is the same document, and the
// writer's output is read as what encoding/json makes of it.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{}`, `[]`, `"x"`, `1`, `-0`, `1.5e300`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `1e999`, `null`, `true`,
		`{"b":[1,2.50,"\u2028\ud83d\ude00\"\\\/\b"],"a":{"":null}}`, `{"a":1,"a":2}`, `[[[[`, `{} x`, "\"\xff\"", `"\ud800"`, `1E5`, `0.1`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parseJSON(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q was read as JSON", data)
		}
		out, err := appendJSON(nil, v)
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("%q became %q", data, out)
		}
		again, err := parseJSON(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", data, out, err)
		}
		if v.Equal(again) != types.True {
			t.Fatalf("%q became %q, which is another document", data, out)
		}
		if second, err := appendJSON(nil, again); err != nil || !bytes.Equal(second, out) {
			t.Fatalf("%q became %q and then %q (%v)", data, out, second, err)
		}
	})
}
