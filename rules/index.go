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
// the number of rules.
type index struct {
	root node
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
	ends []candidate
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
	byPrefix map[string][]candidate
}

// candidate is a pattern of a rule.
type candidate struct {
	rule    int // its place among the rules
	pattern int // its place among the rule's patterns
}

func newIndex(rules []*rule) *index {
	x := &index{}
	for i, r := range rules {
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
			n.addRest(s.prefix, c)
			return
		}
		b := n.branch(s)
		if i == len(segments)-1 {
			b.ends = append(b.ends, c)
			return
		}
		if b.next == nil {
			b.next = &node{}
		}
		n = b.next
	}
}

func (n *node) addRest(prefix string, c candidate) {
	i, found := slices.BinarySearchFunc(n.rests, len(prefix), func(r restsOf, l int) int { return cmp.Compare(r.length, l) })
	if !found {
		n.rests = slices.Insert(n.rests, i, restsOf{length: len(prefix), byPrefix: map[string][]candidate{}})
	}
	n.rests[i].byPrefix[prefix] = append(n.rests[i].byPrefix[prefix], c)
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

// find appends the patterns that match key to found, ordered by rule and then
// by pattern.
func (x *index) find(key []byte, found []candidate) []candidate {
	found = x.root.find(key, found)
	ordered := func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.pattern, b.pattern))
	}
	if len(found) > 1 && !slices.IsSortedFunc(found, ordered) {
		slices.SortFunc(found, ordered)
	}
	return found
}

// find looks at what is left of the key, which begins with a segment.
func (n *node) find(key []byte, found []candidate) []candidate {
	for i := range n.rests {
		r := &n.rests[i]
		if r.length > len(key) {
			break
		}
		found = append(found, r.byPrefix[string(key[:r.length])]...)
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

func (b *branch) follow(tail []byte, more bool, found []candidate) []candidate {
	if !more {
		return append(found, b.ends...)
	}
	if b.next == nil {
		return found
	}
	return b.next.find(tail, found)
}
