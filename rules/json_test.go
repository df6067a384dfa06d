package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestObjectsInOrder: a comprehension walks an object in the order of its keys, so
// that a change that is read again gets the same body and costs the same.
func TestObjectsInOrder(t *testing.T) {
	set := oneRule(t, `
name: r
keys: /{id}
send:
  sink: hook
  body: |
    {"keys": event.json.map(k, k), "values": event.json.transformList(k, v, v), "first": event.json.map(k, k)[0]}
`, Options{})
	var keys, members []string
	for i := range 50 {
		keys = append(keys, fmt.Sprintf(`"k%02d"`, i))
		members = append(members, fmt.Sprintf(`"k%02d":%d`, i, i+10))
	}
	var values []string
	for i := range members {
		values = append(values, fmt.Sprint(i+10))
	}
	slices.Reverse(members)
	want := `{"first":"k00","keys":[` + strings.Join(keys, ",") + `],"values":[` + strings.Join(values, ",") + `]}`
	var res Result
	set.Evaluate(Source{}, put("/a", "{"+strings.Join(members, ",")+"}"), &res)
	if len(res.Deliveries) != 1 || res.Deliveries[0].Rejected != nil {
		t.Fatalf("got %+v", res)
	}
	if got := string(res.Deliveries[0].Message.Body); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// TestExactNumbers: no number loses digits on its way through a document; alone,
// those do that fit neither 64 bits nor a double.
func TestExactNumbers(t *testing.T) {
	const document = `{"above":18446744073709551616,"decimal":0.12345678901234567890,"double":1.5,` +
		`"int":9223372036854775807,"list":[123456789012345678901234567890,1],"min":-9223372036854775808,` +
		`"uint":12345678901234567890,"uint_max":18446744073709551615}`
	for _, c := range []struct{ body, want string }{
		{`event.json`, document},
		{`{"wrapped": [event.json]}`, `{"wrapped":[` + document + `]}`},
		{`event.json.list`, `[123456789012345678901234567890,1]`},
		{`json.encode(event.json.list)`, `[123456789012345678901234567890,1]`},
		{`[event.json.uint, event.json.uint_max]`, `[12345678901234567890,18446744073709551615]`},
		{`string(event.json.uint) + " " + string(event.json.uint_max)`, `12345678901234567890 18446744073709551615`},
		{`[event.json.uint == 12345678901234567890u, event.json.uint == 12345678901234567891u, event.json.uint > 5, event.json.uint < 1.0]`, `[true,false,true,false]`},
		{`[event.json.above]`, `[18446744073709552000]`},
	} {
		d := evaluateAs(t, "body", c.body, put("/a", document))
		if d.Rejected != nil {
			t.Errorf("%s: rejected: %s", c.body, d.Rejected.Error)
		} else if got := string(d.Message.Body); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}
