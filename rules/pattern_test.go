package rules

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"keyhook"
)

// reference is a second reading of the pattern language, by way of a regular
// expression over bytes written as characters.
func reference(p *pattern) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^" + regexp.QuoteMeta(widen([]byte(p.literal))))
	for i, c := range p.captures {
		if p.rest && i == len(p.captures)-1 {
			b.WriteString(`([\x{0}-\x{ff}]*)`)
		} else {
			b.WriteString(`([^/]+)`)
		}
		b.WriteString(regexp.QuoteMeta(widen([]byte(c.suffix + c.next))))
	}
	return regexp.MustCompile("(?s)" + b.String() + "$")
}

// widen writes each byte as the character of that number, so that a regular
// expression sees bytes.
func widen(b []byte) string {
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}

func narrow(s string) []byte {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// source writes the parts of p as a pattern again.
func source(p *pattern) string {
	escape := strings.NewReplacer("{", "{{", "}", "}}").Replace
	s := escape(p.literal)
	for i, c := range p.captures {
		if p.rest && i == len(p.captures)-1 {
			s += "{" + c.name + "...}"
		} else {
			s += "{" + c.name + "}" + escape(c.suffix+c.next)
		}
	}
	return s
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{
		"/service/{scope}/leader", "{x...}", "/a/{x...}", "/{{}}/{x}-y/{z}", "QueryNode-{id}", "/{a}{b}", "{", "}", "{}", "/{x}/{x}", "//{x}//", "é{ü}",
	} {
		f.Add(s, []byte("/service/demo/leader"))
		f.Add(s, []byte("/{}/a-y/b"))
		f.Add(s, []byte("\xff/\x00/"))
	}
	f.Fuzz(func(t *testing.T, text string, key []byte) {
		p, err := parsePattern(text)
		if err != nil {
			if err.at < 0 || err.at > len(text) || err.message == "" {
				t.Fatalf("a mistake at %d of %q: %q", err.at, text, err.message)
			}
			return
		}
		if got := source(p); got != text {
			t.Fatalf("%q was read as %q", text, got)
		}
		spans, ok := p.match(key, nil)
		m := reference(p).FindStringSubmatch(widen(key))
		if ok != (m != nil) {
			t.Fatalf("%q matches %q: %t, the reference says %t", text, key, ok, m != nil)
		}
		if ok {
			for i, s := range spans {
				if want := narrow(m[i+1]); !bytes.Equal(key[s.from:s.to], want) {
					t.Fatalf("%q on %q: capture %d is %q, want %q", text, key, i, key[s.from:s.to], want)
				}
			}
			if !p.keyRange().Contains(key) {
				t.Fatalf("%q matches %q, which is outside of its range %s", text, key, p.keyRange())
			}
		}
		x := newIndex([]*rule{{patterns: []*pattern{p}}}, everyRule)
		if found := x.find(key, nil); (len(found) == 1) != ok {
			t.Fatalf("%q on %q: the index finds %v, the pattern says %t", text, key, found, ok)
		}
	})
}

// TestIndexFindsWhatMatches holds the index against trying every pattern, on
// patterns and keys that have much in common.
func TestIndexFindsWhatMatches(t *testing.T) {
	parts := []string{"a", "b", "ab", "{x}", "{x...}", "a{x}", "{x}b", "a{x}b", "ab{x}", "", "{{", "\u00e9{x}"}
	words := []string{"a", "b", "ab", "aab", "abb", "acb", "", "{", "\u00e9", "\xff", "é1"}
	rapid.Check(t, func(t *rapid.T) {
		var rules []*rule
		for range rapid.IntRange(1, 30).Draw(t, "rules") {
			r := &rule{}
			for range rapid.IntRange(1, 3).Draw(t, "patterns") {
				segments := rapid.SliceOfN(rapid.SampledFrom(parts), 1, 4).Draw(t, "segments")
				for i := range segments { // names are unique, and the rest comes last
					segments[i] = strings.Replace(segments[i], "{x", "{x"+string(rune('0'+i)), 1)
					if i < len(segments)-1 {
						segments[i] = strings.Replace(segments[i], "...", "", 1)
					}
				}
				p, err := parsePattern(strings.Join(segments, "/"))
				if err != nil {
					continue // the empty one
				}
				r.patterns = append(r.patterns, p)
			}
			rules = append(rules, r)
		}
		x := newIndex(rules, everyRule)
		for range 20 {
			key := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 1, 5).Draw(t, "key"), "/"))
			var want []candidate
			for i, r := range rules {
				for j, p := range r.patterns {
					if _, ok := p.match(key, nil); ok {
						want = append(want, candidate{i, j})
					}
				}
			}
			var got []candidate
			for _, g := range x.find(key, nil) {
				got = append(got, g.all...)
			}
			if order(got); !slices.Equal(got, want) {
				t.Fatalf("key %q: found %v, want %v", key, got, want)
			}
		}
	})
}

func TestCoverage(t *testing.T) {
	prefix := func(s string) keyhook.Range { return keyhook.Prefix([]byte(s)) }
	for _, c := range []struct {
		name   string
		r      keyhook.Range
		ranges []keyhook.Range
		want   cover
	}{
		{"the same", prefix("/a/"), []keyhook.Range{prefix("/a/")}, whole},
		{"inside", prefix("/a/b"), []keyhook.Range{prefix("/a/")}, whole},
		{"a single key", keyhook.Single([]byte("/a")), []keyhook.Range{prefix("/a")}, whole},
		{"adjacent ranges together", prefix("/a"), []keyhook.Range{{Start: []byte("/a5"), End: []byte("/b")}, {Start: []byte("/a"), End: []byte("/a5")}}, whole},
		{"a gap between", prefix("/a"), []keyhook.Range{{Start: []byte("/a6"), End: []byte("/b")}, {Start: []byte("/a"), End: []byte("/a5")}}, partial},
		{"wider", prefix("/"), []keyhook.Range{prefix("/a")}, partial},
		{"everything in everything", prefix(""), []keyhook.Range{prefix("")}, whole},
		{"everything in a part", prefix(""), []keyhook.Range{prefix("/a")}, partial},
		{"0xff has no upper end", prefix("\xff"), []keyhook.Range{prefix("")}, whole},
		{"before", prefix("/a"), []keyhook.Range{prefix("/b")}, disjoint},
		{"behind", prefix("/c"), []keyhook.Range{prefix("/b")}, disjoint},
		{"no slash", keyhook.Single([]byte("/a")), []keyhook.Range{prefix("/a/")}, disjoint},
	} {
		if got := coverage(c.r, c.ranges); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// TestToken: different keys are different subjects that NATS accepts.
func TestToken(t *testing.T) {
	for key, want := range map[string]string{
		"":                             "%",
		"/":                            "%.%",
		"/service/demo/leader":         "%.service.demo.leader",
		"a.b*c>d e%\n":                 "a%2Eb%2Ac%3Ed%20e%25%0A",
		"é\xff":                        "%C3%A9%FF",
		strings.Repeat("a/", 31) + "a": strings.Repeat("a.", 31) + "a",
		strings.Repeat("a", 512):       strings.Repeat("a", 512),
	} {
		if got := natsToken(key); got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
	for _, long := range []string{strings.Repeat("a/", 32) + "a", strings.Repeat("a", 513), strings.Repeat("\xff", 200)} {
		if got := natsToken(long); !strings.HasPrefix(got, "%h.") || len(got) > 64 {
			t.Errorf("a long key became %q", got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.SampledFrom([]byte("a/%hH.2Ff\x00")), 0, 8)
		a, b := string(bytes.Draw(t, "a")), string(bytes.Draw(t, "b"))
		if a != b && natsToken(a) == natsToken(b) {
			t.Fatalf("%q and %q are both %q", a, b, natsToken(a))
		}
		if s := natsToken(a); strings.ContainsAny(s, " *>\x00/") || strings.Contains(s, "..") || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") || !utf8.ValidString(s) {
			t.Fatalf("%q became %q", a, s)
		}
	})
}
