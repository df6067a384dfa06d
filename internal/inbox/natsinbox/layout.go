package natsinbox

import (
	"slices"
	"strings"
)

// layout says which subjects each stream takes. No subject belongs to two
// streams, which a server would refuse.
//
// A stream takes everything that begins with the first token of a subject,
// "audit.>" for audit.a.b, so that it need not change with each key. Where two
// streams share a first token, both take the exact subjects that they need.
type layout struct {
	streams map[string][]string          // filters by stream
	narrow  map[string]bool              // first tokens that streams share
	latest  map[string]map[string]string // the last subject by stream and first token
}

func newLayout() *layout {
	return &layout{streams: make(map[string][]string), narrow: make(map[string]bool), latest: make(map[string]map[string]string)}
}

// add makes a stream known. Until it is asked to cover something it takes the
// subject that a server gives a stream without subjects: its own name.
func (l *layout) add(stream string) (isNew bool) {
	if _, known := l.streams[stream]; known {
		return false
	}
	l.streams[stream] = []string{stream}
	l.latest[stream] = make(map[string]string)
	return true
}

// cover makes a stream take a subject. It returns the streams that are others
// than before, those first that take less.
func (l *layout) cover(stream, subject string) (changed []string) {
	first, _, deep := strings.Cut(subject, ".")
	isNew := l.add(stream)
	l.latest[stream][first] = subject
	if slices.ContainsFunc(l.streams[stream], func(filter string) bool { return covers(filter, subject) }) {
		if isNew {
			return []string{stream}
		}
		return nil
	}
	filter := subject
	if deep && !l.narrow[first] {
		filter = first + ".>"
		changed = l.share(stream, first)
		if l.narrow[first] {
			filter = subject
		}
	}
	l.streams[stream] = append(l.streams[stream], filter)
	return append(changed, stream)
}

// share narrows other streams that take subjects beginning with first.
func (l *layout) share(stream, first string) (changed []string) {
	wide := first + ".>"
	for other, filters := range l.streams {
		if other == stream || !slices.ContainsFunc(filters, func(f string) bool { return f == wide || covers(wide, f) }) {
			continue
		}
		l.narrow[first] = true
		if at := slices.Index(filters, wide); at >= 0 {
			filters[at] = l.latest[other][first]
			changed = append(changed, other)
		}
	}
	slices.Sort(changed)
	return changed
}

// covers reports whether a stream that takes filter takes subject.
func covers(filter, subject string) bool {
	head, wide := strings.CutSuffix(filter, ">")
	return filter == subject || wide && strings.HasPrefix(subject, head) && subject != head
}
