package rules

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// index finds the patterns that match a key, without looking at those that do
// not: it is a tree of segments, and a segment is looked up by hash, whether as
// a whole or by the text around its capture. What a lookup costs depends on the
// length of the key and on how many different lengths those texts have, not on
// the number of rules. Patterns that match the same keys are a group, of which
// the conditions choose.
type index struct {
	root   node
	groups []*group
}

// node is a place between two segments.
type node struct {
	whole map[string]*branch // segments without a capture
	parts []partsOf          // segments with one, by the length of the text before it
	rests []restsOf          // {x...}, by the length of the text before it
}

// branch is what follows a segment: further ones, or the end of the key.
type branch struct {
	next *node
	ends *group
}

type partsOf struct {
	length   int
	byPrefix map[string]*suffixes
}

type suffixes struct {
	lengths  []int // ascending
	bySuffix map[string]*branch
}

type restsOf struct {
	length   int
	byPrefix map[string]*group
}

// candidate is a pattern of a rule.
type candidate struct {
	rule    int // its place among the rules
	pattern int // its place among the rule's patterns
}

// newIndex returns an index of those of the rules that are of it.
func newIndex(rules []*rule, of func(*rule) bool) *index {
	x := &index{}
	for i, r := range rules {
		if !of(r) {
			continue
		}
		for j, p := range r.patterns {
			x.add(p, candidate{rule: i, pattern: j})
		}
	}
	return x
}

// segment is a part of a pattern between slashes.
type segment struct {
	prefix, suffix string
	captured, rest bool
}

// segments cuts p at its slashes.
func (p *pattern) segments() []segment {
	var segments []segment
	current := segment{}
	text := func(s string) {
		for {
			head, tail, more := strings.Cut(s, "/")
			if current.captured {
				current.suffix += head
			} else {
				current.prefix += head
			}
			if !more {
				return
			}
			segments = append(segments, current)
			current, s = segment{}, tail
		}
	}
	text(p.literal)
	for i, c := range p.captures {
		current.captured = true
		current.rest = p.rest && i == len(p.captures)-1
		text(c.suffix + c.next)
	}
	return append(segments, current)
}

func (x *index) add(p *pattern, c candidate) {
	n := &x.root
	segments := p.segments()
	for i, s := range segments {
		if s.rest {
			at := n.rest(s.prefix)
			at[s.prefix] = x.join(at[s.prefix], c)
			return
		}
		b := n.branch(s)
		if i == len(segments)-1 {
			b.ends = x.join(b.ends, c)
			return
		}
		if b.next == nil {
			b.next = &node{}
		}
		n = b.next
	}
}

// join puts c into a group, a new one if g is nil.
func (x *index) join(g *group, c candidate) *group {
	if g == nil {
		g = &group{}
		x.groups = append(x.groups, g)
	}
	g.all = append(g.all, c)
	return g
}

// rest returns where the patterns are that end with {x...} behind a text of the
// length of prefix.
func (n *node) rest(prefix string) map[string]*group {
	i, found := slices.BinarySearchFunc(n.rests, len(prefix), func(r restsOf, l int) int { return cmp.Compare(r.length, l) })
	if !found {
		n.rests = slices.Insert(n.rests, i, restsOf{length: len(prefix), byPrefix: map[string]*group{}})
	}
	return n.rests[i].byPrefix
}

// branch returns what follows the segment s, which it adds if it is new.
func (n *node) branch(s segment) *branch {
	if !s.captured {
		if n.whole == nil {
			n.whole = map[string]*branch{}
		}
		if n.whole[s.prefix] == nil {
			n.whole[s.prefix] = &branch{}
		}
		return n.whole[s.prefix]
	}
	i, found := slices.BinarySearchFunc(n.parts, len(s.prefix), func(p partsOf, l int) int { return cmp.Compare(p.length, l) })
	if !found {
		n.parts = slices.Insert(n.parts, i, partsOf{length: len(s.prefix), byPrefix: map[string]*suffixes{}})
	}
	group := n.parts[i].byPrefix[s.prefix]
	if group == nil {
		group = &suffixes{bySuffix: map[string]*branch{}}
		n.parts[i].byPrefix[s.prefix] = group
	}
	if j, found := slices.BinarySearch(group.lengths, len(s.suffix)); !found {
		group.lengths = slices.Insert(group.lengths, j, len(s.suffix))
	}
	if group.bySuffix[s.suffix] == nil {
		group.bySuffix[s.suffix] = &branch{}
	}
	return group.bySuffix[s.suffix]
}

// find appends the groups that match key to found.
func (x *index) find(key []byte, found []*group) []*group {
	return x.root.find(key, found)
}

// find looks at what is left of the key, which begins with a segment.
func (n *node) find(key []byte, found []*group) []*group {
	for i := range n.rests {
		r := &n.rests[i]
		if r.length > len(key) {
			break
		}
		if g := r.byPrefix[string(key[:r.length])]; g != nil {
			found = append(found, g)
		}
	}
	if n.whole == nil && n.parts == nil {
		return found
	}
	segment, tail, more := key, []byte(nil), false
	if slash := bytes.IndexByte(key, '/'); slash >= 0 {
		segment, tail, more = key[:slash], key[slash+1:], true
	}
	if b := n.whole[string(segment)]; b != nil {
		found = b.follow(tail, more, found)
	}
	for i := range n.parts {
		p := &n.parts[i]
		if p.length >= len(segment) {
			break
		}
		group := p.byPrefix[string(segment[:p.length])]
		if group == nil {
			continue
		}
		for _, length := range group.lengths {
			if p.length+length >= len(segment) { // a capture takes one byte at least
				break
			}
			if b := group.bySuffix[string(segment[len(segment)-length:])]; b != nil {
				found = b.follow(tail, more, found)
			}
		}
	}
	return found
}

func (b *branch) follow(tail []byte, more bool, found []*group) []*group {
	switch {
	case more && b.next != nil:
		return b.next.find(tail, found)
	case !more && b.ends != nil:
		return append(found, b.ends)
	default:
		return found
	}
}
