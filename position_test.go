package keyhook_test

import (
	"slices"
	"testing"

	"keyhook"
)

func TestPositionsAreOrdered(t *testing.T) {
	sorted := []keyhook.Position{{}, keyhook.After(4), {Next: 5, Admitted: 1}, {Next: 5, Admitted: 2}, keyhook.After(5)}
	if !slices.IsSortedFunc(sorted, keyhook.Position.Compare) {
		t.Fatalf("not in order: %v", sorted)
	}
	if got := (keyhook.Position{Next: 5, Admitted: 2}).String(); got != "4+2" {
		t.Fatalf("got %s", got)
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       keyhook.Range
		in, out []string
		text    string
	}{
		{"a prefix", keyhook.Prefix([]byte("/a/")), []string{"/a/", "/a/b", "/a/\xff\xff"}, []string{"/a", "/a0", "/b"}, "/a/"},
		{"a prefix that ends in the highest byte", keyhook.Prefix([]byte("a\xff")), []string{"a\xff", "a\xffz"}, []string{"a", "b"}, `a\xff`},
		{"every key", keyhook.Prefix(nil), []string{"", "\x00", "\xff\xff"}, nil, "(all keys)"},
		{"one key", keyhook.Single([]byte("/a")), []string{"/a"}, []string{"/a\x00", "/", "/b"}, "=/a"},
		{"any interval", keyhook.Range{Start: []byte("a"), End: []byte("c")}, []string{"a", "b"}, []string{"c"}, "[a, c)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, k := range c.in {
				if !c.r.Contains([]byte(k)) {
					t.Errorf("does not contain %q", k)
				}
			}
			for _, k := range c.out {
				if c.r.Contains([]byte(k)) {
					t.Errorf("contains %q", k)
				}
			}
			if got := c.r.String(); got != c.text {
				t.Errorf("reads %q, want %q", got, c.text)
			}
		})
	}
}
