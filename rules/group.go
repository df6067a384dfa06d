package rules

import (
	"cmp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
)

// group are the patterns that match the same keys, however their captures are
// called. Where there are many, the conditions of their rules are divided by
// what they compare with literals, so that a change leads to those that can be
// true. A candidate that is left out has a condition that is false; see
// [predicate].
type group struct {
	all []candidate
	// Where it is divided: those that nothing is known of, and the others by
	// attribute. A candidate may stand in several places.
	rest   []candidate
	chosen []*attribute
}

// attribute is something that many conditions of a group compare with literals.
type attribute struct {
	*expression
	// Of a candidate, for captures that only its pattern has; nil if the
	// attribute does not read any.
	rule    *rule
	pattern *pattern

	users    []candidate // all of them
	strict   []candidate // of them those that may end at a limit
	equal    map[scalar][]candidate
	prefixes affixes
	suffixes affixes
}

// affixes are texts by their length.
type affixes struct {
	lengths []int // ascending
	by      map[string][]candidate
}

func (a *affixes) add(text string, c candidate) {
	if i, found := slices.BinarySearch(a.lengths, len(text)); !found {
		a.lengths = slices.Insert(a.lengths, i, len(text))
	}
	if a.by == nil {
		a.by = make(map[string][]candidate)
	}
	a.by[text] = append(a.by[text], c)
}

const (
	// divideAt is how many candidates a group has before it is divided.
	divideAt = 8
	// sharedBy is how many candidates an attribute must be of use to.
	sharedBy = 4
	// maxFailing is for how many candidates the failure of an attribute is that
	// of each of them, counted and logged. Of more, nobody would read it.
	maxFailing = 100
)

// find appends the candidates whose conditions may come to something for the
// event of st.
func (g *group) find(st *state, found []candidate) []candidate {
	if g.chosen == nil {
		return append(found, g.all...)
	}
	found = append(found, g.rest...)
	for _, a := range g.chosen {
		found = a.find(st, found)
	}
	return found
}

func (a *attribute) find(st *state, found []candidate) []candidate {
	if a.rule != nil {
		st.enter(a.rule, a.pattern)
	}
	v, failed := a.eval(st, false)
	if failed != nil {
		return a.fail(found)
	}
	if s, ok := scalarOf(v); ok {
		found = append(found, a.equal[s]...)
	}
	if len(a.prefixes.lengths)+len(a.suffixes.lengths) == 0 {
		return found
	}
	text, ok := v.(types.String)
	if !ok { // which has no beginning and no end
		return a.fail(found)
	}
	for _, n := range a.prefixes.lengths {
		if n > len(text) {
			break
		}
		found = append(found, a.prefixes.by[string(text[:n])]...)
	}
	for _, n := range a.suffixes.lengths {
		if n > len(text) {
			break
		}
		found = append(found, a.suffixes.by[string(text[len(text)-n:])]...)
	}
	return found
}

// fail appends those of which it matters that they fail.
func (a *attribute) fail(found []candidate) []candidate {
	if len(a.users) <= maxFailing {
		return append(found, a.users...)
	}
	return append(found, a.strict...)
}

// compileAttribute compiles an attribute for a rule; nil if it cannot be one.
type compileAttribute func(text string, of *rule) *expression

// divide chooses by which attributes the candidates of g are found.
func (g *group) divide(rules []*rule, compile compileAttribute) {
	if len(g.all) <= divideAt {
		return
	}
	d := division{group: g, rules: rules, users: map[string]int{}, values: map[use]int{}, attributes: map[string]*attribute{}}
	d.count()
	for _, c := range g.all {
		if best := d.best(c); best == nil || !d.place(c, best, compile) {
			g.rest = append(g.rest, c)
		}
	}
	if len(d.attributes) == 0 {
		g.rest = nil
		return
	}
	for _, a := range d.attributes {
		if a != nil {
			g.chosen = append(g.chosen, a)
		}
	}
	slices.SortFunc(g.chosen, func(a, b *attribute) int { return strings.Compare(a.source.Value, b.source.Value) })
}

// division is a group that is being divided.
type division struct {
	group *group
	rules []*rule
	// users are how many candidates an attribute is of use to, values how many
	// of them ask for the same of it.
	users      map[string]int
	values     map[use]int
	attributes map[string]*attribute // by their names; nil for those that cannot be one
}

// use is an atom of the candidates of a group.
type use struct {
	name    string
	op      op
	literal scalar
}

// name tells attributes of a group apart: those that read captures by how the
// captures are called.
func (a *atom) name(p *pattern) string {
	if !a.captures {
		return a.attribute
	}
	return a.attribute + " " + strings.Join(p.names(), ",")
}

// clauses returns the clauses by which c may be found.
func (d *division) clauses(c candidate) []clause {
	r := d.rules[c.rule]
	if r.when == nil || r.when.only == nil || r.timing.For > 0 {
		return nil
	}
	clauses := r.when.only.clauses
	if len(r.patterns) == 1 {
		return clauses
	}
	// Which pattern of a rule counts is decided by the keys alone: the first one
	// that matches. It must not be left out for what only it makes of a key.
	var kept []clause
	for _, cl := range clauses {
		if !slices.ContainsFunc(cl, func(a atom) bool { return a.captures }) {
			kept = append(kept, cl)
		}
	}
	return kept
}

func (d *division) count() {
	for _, c := range d.group.all {
		p := d.rules[c.rule].patterns[c.pattern]
		seen := map[string]bool{}
		for _, cl := range d.clauses(c) {
			for i := range cl {
				name := cl[i].name(p)
				if !seen[name] {
					seen[name] = true
					d.users[name]++
				}
				d.values[use{name, cl[i].op, cl[i].literal}]++
			}
		}
	}
}

// best returns the clause of c that is true for the fewest candidates, if it
// tells them apart at all.
func (d *division) best(c candidate) clause {
	p := d.rules[c.rule].patterns[c.pattern]
	var best clause
	fewest := len(d.group.all)
	for _, cl := range d.clauses(c) {
		most := 0
		for i := range cl {
			name := cl[i].name(p)
			if d.users[name] < sharedBy {
				most = len(d.group.all)
			}
			most = max(most, d.values[use{name, cl[i].op, cl[i].literal}])
		}
		if most < fewest {
			best, fewest = cl, most
		}
	}
	return best
}

// place makes c found by a clause. It reports false, and does nothing, if the
// clause cannot be used.
func (d *division) place(c candidate, cl clause, compile compileAttribute) bool {
	r := d.rules[c.rule]
	p := r.patterns[c.pattern]
	for i := range cl {
		if d.attribute(&cl[i], r, p, compile) == nil {
			return false
		}
	}
	for i := range cl {
		a := d.attribute(&cl[i], r, p, compile)
		if n := len(a.users); n == 0 || a.users[n-1] != c {
			a.users = append(a.users, c)
			if r.when.only.limited {
				a.strict = append(a.strict, c)
			}
		}
		switch literal := cl[i].literal; cl[i].op {
		case begins:
			a.prefixes.add(literal.text, c)
		case ends:
			a.suffixes.add(literal.text, c)
		default:
			a.equal[literal] = append(a.equal[literal], c)
		}
	}
	return true
}

func (d *division) attribute(at *atom, r *rule, p *pattern, compile compileAttribute) *attribute {
	name := at.name(p)
	a, known := d.attributes[name]
	if known {
		return a
	}
	if x := compile(at.attribute, r); x != nil {
		a = &attribute{expression: x, equal: map[scalar][]candidate{}}
		if at.captures {
			a.rule, a.pattern = r, p
		}
	}
	d.attributes[name] = a
	return a
}

// order sorts candidates by rule and then by pattern.
func order(found []candidate) {
	ordered := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.pattern, b.pattern))
	}
	if len(found) > 1 && !slices.IsSortedFunc(found, ordered) {
		slices.SortFunc(found, ordered)
	}
}
