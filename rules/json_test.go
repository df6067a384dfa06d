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
