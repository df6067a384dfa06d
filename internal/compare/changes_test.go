package compare_test

import (
	"encoding/json"
	"testing"

	"keyhook"
	"keyhook/internal/compare"
)

func TestWhatIsDifferent(t *testing.T) {
	key := compare.NewKey()
	text := func(name, value string) compare.Field { return compare.Field{Name: name, Text: value} }
	item := func(name string, fields ...compare.Field) compare.Item {
		return compare.Item{Name: name, Fields: fields}
	}
	before := &compare.Inventory{
		Key: key,
		Rules: []compare.Item{
			item("gone"),
			item("same", text("keys", "/a"), compare.Hidden(key, "when", "true")),
			item("other", text("keys", "/a"), text("keys", "/b"), compare.Hidden(key, "when", "true"), text("for", "15s")),
			item("old", text("keys", "/a")),
		},
		Sinks:    []compare.Item{item("pager", compare.Hidden(key, "webhook.url", "http://a/s3cret"))},
		Ranges:   []keyhook.Range{keyhook.Prefix([]byte("/a/")), keyhook.Prefix([]byte("/b/"))},
		Settings: []compare.Field{text("etcd.start", "now")},
	}
	after := &compare.Inventory{
		Key: key,
		Rules: []compare.Item{
			item("same", text("keys", "/a"), compare.Hidden(key, "when", "true")),
			item("other", text("keys", "/a"), text("keys", "/c"), compare.Hidden(key, "when", "false"), text("every", "5m0s")),
			{Name: "new", Was: []string{"older", "old"}, Fields: []compare.Field{text("keys", "/a")}},
			item("added"),
		},
		Sinks:    []compare.Item{item("pager", compare.Hidden(key, "webhook.url", "http://b/s3cret"))},
		Ranges:   []keyhook.Range{keyhook.Prefix([]byte("/a/")), keyhook.Prefix([]byte("/c/"))},
		Settings: []compare.Field{text("etcd.start", "snapshot")},
	}
	c := compare.Compare(before, after)
	got, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "rules": {
  "added": [
   "added"
  ],
  "removed": [
   {
    "name": "gone",
    "owed": 0
   }
  ],
  "changed": [
   {
    "name": "other",
    "fields": [
     {
      "field": "keys",
      "before": [
       "/a",
       "/b"
      ],
      "after": [
       "/a",
       "/c"
      ]
     },
     {
      "field": "when",
      "hidden": true
     },
     {
      "field": "every",
      "after": [
       "5m0s"
      ]
     },
     {
      "field": "for",
      "before": [
       "15s"
      ]
     }
    ]
   }
  ],
  "renamed": [
   {
    "from": "old",
    "to": "new"
   }
  ]
 },
 "sinks": {
  "added": [],
  "removed": [],
  "changed": [
   {
    "name": "pager",
    "fields": [
     {
      "field": "webhook.url",
      "hidden": true
     }
    ]
   }
  ],
  "renamed": []
 },
 "ranges": {
  "added": [
   "/c/"
  ],
  "given_up": [
   "/b/"
  ]
 },
 "settings": [
  {
   "field": "etcd.start",
   "before": [
    "now"
   ],
   "after": [
    "snapshot"
   ]
  }
 ]
}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
	if c.IsZero() {
		t.Error("and it is nothing")
	}
	if same := compare.Compare(after, after); !same.IsZero() {
		t.Errorf("%+v differs from itself", same)
	}
}

// Nothing but the one who made a key can tell what a hash is of, by comparing it
// with what it was of before.
func TestAHashIsOfItsKey(t *testing.T) {
	a, b := compare.Hidden(compare.NewKey(), "x", "same"), compare.Hidden(compare.NewKey(), "x", "same")
	if string(a.Hash) == string(b.Hash) || a.Text != "" {
		t.Errorf("%+v and %+v", a, b)
	}
}
