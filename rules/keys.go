package rules

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// keys parses the patterns of a rule and reports whether its captures are known.
func (b *builder) keys(e *ruleEntry) bool {
	good := len(e.Keys) > 0
	if e.Keys != nil && len(e.Keys) == 0 {
		b.fail(e.Position, "", "a rule needs keys")
	}
	var first strictyaml.Text
	for _, source := range e.Keys {
		if source.Position.Line == 0 {
			good = false // no string: has been reported
			continue
		}
		if len(source.Value) > maxPatternSize {
			b.fail(source.Position, "", "a pattern must not be longer than %d bytes", maxPatternSize)
			good = false
			continue
		}
		p, err := parsePattern(source.Value)
		if err != nil {
			at, _ := source.Locate(1, len([]rune(source.Value[:err.at])))
			b.fail(at, err.hint, "keys: %s", err.message)
			good = false
			continue
		}
		if b.rule.captures == nil {
			b.rule.captures, first = p.sortedNames(), source
		} else if !slices.Equal(b.rule.captures, p.sortedNames()) {
			b.fail(source.Position, fmt.Sprintf("%s has %s", first.Value, nameList(b.rule.captures)),
				"keys: all patterns of a rule must have the same captures, this one has %s", nameList(p.sortedNames()))
			good = false
		}
		b.rule.patterns = append(b.rule.patterns, p)
		b.watched(source, p)
	}
	return good
}

func nameList(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return "{" + strings.Join(names, "}, {") + "}"
}

// watched compares a pattern with what is watched, where that is given.
func (b *builder) watched(source strictyaml.Text, p *pattern) {
	if len(b.opts.Watch) == 0 {
		return
	}
	switch r := p.keyRange(); coverage(r, b.opts.Watch) {
	case disjoint:
		b.fail(source.Position, "add it to etcd.watch, or remove etcd.watch to derive it from the rules",
			"keys: %s is outside of everything that is watched", p.source)
	case partial:
		hint := fmt.Sprintf("its keys begin with %s; add that to etcd.watch", r)
		if len(r.Start) == 0 {
			hint = "it matches every key; remove etcd.watch to watch them all"
		}
		b.warnings.Add(source.Position, hint, "keys: %s is watched in part only", p.source)
	}
}

type cover uint8

const (
	whole cover = iota
	partial
	disjoint
)

// coverage tells how much of r lies in the ranges together.
func coverage(r keyhook.Range, ranges []keyhook.Range) cover {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b keyhook.Range) int { return bytes.Compare(a.Start, b.Start) })
	touched, gap := false, false
	at := r.Start // up to here it is covered, but for gaps
	for _, w := range sorted {
		if len(r.End) > 0 && bytes.Compare(w.Start, r.End) >= 0 {
			break
		}
		if len(w.End) > 0 && bytes.Compare(w.End, at) <= 0 {
			continue
		}
		touched = true
		if bytes.Compare(w.Start, at) > 0 {
			gap = true
		}
		if len(w.End) == 0 {
			at = nil
			break
		}
		at = w.End
	}
	switch {
	case !touched:
		return disjoint
	case gap:
		return partial
	case at == nil || len(r.End) > 0 && bytes.Compare(at, r.End) >= 0:
		return whole
	default:
		return partial
	}
}

var paramName = regexp.MustCompile(`params\s*\.\s*\??\s*([A-Za-z_][A-Za-z0-9_]*)`)

// mentioned returns the names that the expressions of a rule read as params.
func mentioned(e *ruleEntry) []string {
	texts := []strictyaml.Text{e.When}
	for _, v := range e.Vars {
		texts = append(texts, v.text)
	}
	for _, s := range e.Send {
		if s == nil {
			continue
		}
		texts = append(texts, s.Body, s.Subject)
		for _, h := range s.Headers {
			texts = append(texts, h.text)
		}
	}
	var names []string
	for _, t := range texts {
		for _, m := range paramName.FindAllStringSubmatch(t.Value, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// reservedHeaders are set by keyhook or the protocol.
var reservedHeaders = map[string]bool{
	"connection": true, "content-length": true, "expect": true, "host": true, "keep-alive": true,
	"proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
}

// checkHeaderName returns a hint and an error if a rule cannot set a header, by
// its name in lower case.
func checkHeaderName(lower string) (string, error) {
	token := lower != "" && !strings.ContainsFunc(lower, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
	switch {
	case !token:
		return "a name has letters, digits and -", errors.New("is not a valid name")
	case reservedHeaders[lower], strings.HasPrefix(lower, "webhook-"), strings.HasPrefix(lower, "nats-"):
		return "remove it", errors.New("is set by keyhook and cannot be changed")
	}
	return "", nil
}
