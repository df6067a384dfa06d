package rules

import "keyhook/internal/strictyaml"

// renamed checks the old names of something: none of them is a name of today, or
// that of two.
func (l *loader) renamed(what string, old oldNames, today, seen map[string]strictyaml.Position) {
	for _, name := range old {
		if !named(&l.problems, what, name) {
			continue
		}
		if at, ok := today[name.Value]; ok {
			l.fail(name.Position, "was names what does not exist any more", "there is a %s %q, at %s", what, name.Value, at)
		} else if at, ok := seen[name.Value]; ok {
			l.fail(name.Position, "what was owed can go one way only", "%q is the old name of another %s, at %s", name.Value, what, at)
		}
		seen[name.Value] = name.Position
	}
}

// Renamed are the names that rules and sinks had before, with those they have
// now: what is owed under the former is owed under the latter.
type Renamed struct {
	Rules, Sinks map[string]string
}

// Renamed returns what has another name than before, by the old ones.
func (s *Set) Renamed() Renamed {
	renamed := Renamed{Rules: map[string]string{}, Sinks: map[string]string{}}
	for _, r := range s.rules {
		for _, old := range r.was {
			renamed.Rules[old] = r.name
		}
	}
	for _, k := range s.sinks {
		for _, old := range k.Was {
			renamed.Sinks[old] = k.Name
		}
	}
	return renamed
}
