package ruletest

import (
	"maps"
	"slices"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// checker finds what in a file of tests names something that is not there, or
// says nothing.
type checker struct {
	rs       *ruleSet
	rules    []string
	sinks    []string
	problems strictyaml.Problems
}

// check looks at all of f, and puts the single step of a test in its place.
func (f *File) check() strictyaml.Problems {
	c := &checker{
		rs:    f.rs,
		rules: slices.Sorted(maps.Keys(f.rs.rules)),
		sinks: slices.Sorted(maps.Keys(f.rs.sinks)),
	}
	c.ruleNames(f.spec.Only)
	if len(f.spec.Tests) == 0 {
		c.fail(f.spec.Position, "", "there is no test in the file")
	}
	names := map[string]strictyaml.Position{}
	for _, t := range f.spec.Tests {
		if t == nil {
			continue // has been reported
		}
		if first, dup := names[t.Title.Value]; dup && t.Title.IsSet() {
			c.fail(t.Title.Position, "", "test %q is already defined at %s", t.Title.Value, first)
		}
		names[t.Title.Value] = t.Title.Position
		c.test(t)
	}
	return c.problems
}

func (c *checker) fail(at strictyaml.Position, hint, format string, args ...any) {
	c.problems.Add(at, hint, format, args...)
}

func (c *checker) test(t *testSpec) {
	c.ruleNames(t.Only)
	own := stepSpec{Position: t.Position, actions: t.actions, expectations: t.expectations}
	switch {
	case len(t.Steps) == 0:
		t.Steps = []*stepSpec{&own}
	case !own.isEmpty():
		c.fail(t.Position, "put it into the first of the steps", "a test with steps does and expects nothing beside them")
	}
	c.scripts(t.Sinks)
	names := make([]string, len(t.Leases))
	for i, l := range t.Leases {
		names[i] = l.name
		if l.ttl <= 0 {
			c.fail(l.at, "", "lease %q has no time to live", l.name)
		}
	}
	lease := func(name strictyaml.At[string]) {
		if name.IsSet() && !slices.Contains(names, name.Value) {
			c.fail(name.Position, orHint(strictyaml.DidYouMean(name.Value, names), "the leases of a test are named with their times, as in leases: {member: 30s}"),
				"there is no lease %q", name.Value)
		}
	}
	c.entries(t.Seed, lease, true)
	expects := false
	for _, s := range t.Steps {
		if s == nil {
			continue
		}
		expects = expects || s.expects()
		c.scripts(s.Sinks)
		c.entries(s.Put, lease, false)
		for _, name := range slices.Concat(s.Revoke, s.Abandon) {
			lease(name)
		}
		if s.Lease != nil {
			lease(*s.Lease)
			if len(s.Put.all) == 0 {
				c.fail(s.Lease.Position, "", "a lease without a put has no effect")
			}
		}
		c.expectations(&s.expectations)
	}
	if !expects {
		c.fail(t.Position, "add expect or expect_none", "the test expects nothing")
	}
}

func orHint(hint, other string) string {
	if hint != "" {
		return hint
	}
	return other
}

func (c *checker) entries(all entries, lease func(strictyaml.At[string]), seed bool) {
	for _, e := range all.all {
		if e.lease != nil {
			lease(*e.lease)
		}
		if !seed && (e.revision != 0 || e.createRevision != 0 || e.version != 0 || e.deleted) {
			c.fail(e.at, "", "only a seed can have another revision than that of its transaction")
		}
		if e.revision < 0 || e.createRevision < 0 || e.version < 0 || e.createRevision > e.revision && e.revision > 0 {
			c.fail(e.at, "", "no key of etcd has such revisions")
		}
	}
}

func (c *checker) expectations(x *expectations) {
	text := func(names ...*strictyaml.At[string]) []strictyaml.At[string] {
		var all []strictyaml.At[string]
		for _, n := range names {
			if n != nil {
				all = append(all, *n)
			}
		}
		return all
	}
	if x.Expect != nil {
		for _, a := range x.Expect.all {
			if a == nil {
				continue
			}
			c.ruleNames(text(a.Rule))
			c.sinkNames(text(a.Sink))
			c.key(a.Key)
			if a.Type != nil && a.Type.Value != keyhook.Put.String() && a.Type.Value != keyhook.Delete.String() {
				c.fail(a.Type.Position, "write PUT or DELETE", "%q is not the type of an event", a.Type.Value)
			}
		}
	}
	if x.ExpectNone != nil {
		for _, a := range x.ExpectNone.of {
			if a != nil {
				c.ruleNames(text(a.Rule))
				c.sinkNames(text(a.Sink))
				c.key(a.Key)
			}
		}
		if x.ExpectNone.all && x.Expect != nil && len(x.Expect.all) > 0 {
			c.fail(x.ExpectNone.Position, "", "something is expected as well")
		}
	}
	for _, d := range x.ExpectDead {
		if d != nil {
			c.ruleNames(text(d.Rule))
			c.sinkNames(text(d.Sink))
			c.key(d.Key)
			c.reason(d.Reason)
		}
	}
	if x.ExpectErrors != nil {
		c.ruleNames(*x.ExpectErrors)
	}
	for name, n := range x.ExpectOwed {
		c.sinkNames([]strictyaml.At[string]{{Value: name, Position: n.Position}})
	}
}

func (c *checker) reason(at *strictyaml.At[string]) {
	if at == nil {
		return
	}
	var names []string
	for _, r := range keyhook.Reasons() {
		names = append(names, string(r))
	}
	if !slices.Contains(names, at.Value) {
		c.fail(at.Position, strictyaml.DidYouMean(at.Value, names), "%q is no reason of a dead letter", at.Value)
	}
}

func (c *checker) ruleNames(names []strictyaml.At[string]) {
	for _, n := range names {
		if n.IsSet() && !c.rs.rules[n.Value] {
			c.fail(n.Position, strictyaml.DidYouMean(n.Value, c.rules), "there is no rule %q", n.Value)
		}
	}
}

// key turns a key that is written in base64 into the key itself.
func (c *checker) key(k *strictyaml.At[string]) {
	if k == nil {
		return
	}
	decoded, err := keyOf(k.Value)
	if err != nil {
		c.fail(k.Position, "", "%s", err)
	}
	k.Value = decoded
}

func (c *checker) sinkNames(names []strictyaml.At[string]) {
	for _, n := range names {
		if _, ok := c.rs.sinks[n.Value]; n.IsSet() && !ok {
			c.fail(n.Position, strictyaml.DidYouMean(n.Value, c.sinks), "there is no sink %q", n.Value)
		}
	}
}

func (c *checker) scripts(all scripts) {
	for _, s := range all {
		c.sinkNames([]strictyaml.At[string]{s.sink})
		spec, ok := c.rs.sinks[s.sink.Value]
		if ok {
			c.problems = append(c.problems, s.check(spec)...)
		}
	}
}

// isEmpty reports whether nothing happens in s and nothing is expected of it.
func (s *stepSpec) isEmpty() bool { return !s.acts() && !s.expects() && s.Wait == nil }

// acts reports whether s writes to etcd, or lets a lease go.
func (s *stepSpec) acts() bool {
	return len(s.Put.all) > 0 || len(s.Delete.all) > 0 || len(s.DeletePrefix.all) > 0 || s.Lease != nil ||
		len(s.Revoke) > 0 || len(s.Abandon) > 0
}

func (x *expectations) expects() bool {
	return x.Expect != nil || x.ExpectNone != nil || len(x.ExpectDead) > 0 || x.ExpectErrors != nil || len(x.ExpectOwed) > 0
}
