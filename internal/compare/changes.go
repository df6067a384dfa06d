package compare

import (
	"cmp"
	"maps"
	"slices"

	"keyhook"
)

// Changes are what is different after from before. Lists are never nil, and in
// the order of names.
type Changes struct {
	Rules  Named  `json:"rules"`
	Sinks  Named  `json:"sinks"`
	Ranges Ranges `json:"ranges"`
	// Settings take effect at the next start.
	Settings []FieldChange `json:"settings"`
}

// Named are the changes of rules, or of sinks.
type Named struct {
	Added   []string  `json:"added"`
	Removed []Removed `json:"removed"`
	Changed []Changed `json:"changed"`
	Renamed []Renamed `json:"renamed"`
}

// Removed is a rule or a sink that is there no more. It still delivers what it
// owes.
type Removed struct {
	Name string `json:"name"`
	// Owed counts what it still owes, where that has been asked for; more than
	// Owed if OwedMore is set.
	Owed     int  `json:"owed"`
	OwedMore bool `json:"owed_more,omitempty"`
}

// Changed is a rule or a sink with other fields than before.
type Changed struct {
	Name   string        `json:"name"`
	Fields []FieldChange `json:"fields"`
}

// Renamed goes on under another name, with what the old one owes.
type Renamed struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// FieldChange is a field that is another than before. Before and After are empty
// where the field is not written, and where its values are not shown.
type FieldChange struct {
	Field  string   `json:"field"`
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
	Hidden bool     `json:"hidden,omitempty"` // a secret or an expression
}

// Ranges are the parts of the keyspace that are watched now, and no longer.
type Ranges struct {
	Added   []string `json:"added"`
	GivenUp []string `json:"given_up"` // with their positions
}

// IsZero reports whether nothing is different.
func (c *Changes) IsZero() bool {
	return c.Rules.isZero() && c.Sinks.isZero() && len(c.Ranges.Added)+len(c.Ranges.GivenUp)+len(c.Settings) == 0
}

func (n *Named) isZero() bool {
	return len(n.Added)+len(n.Removed)+len(n.Changed)+len(n.Renamed) == 0
}

// Compare returns what is different after from before. Their keys must be the
// same.
func Compare(before, after *Inventory) *Changes {
	return &Changes{
		Rules:    named(before.Rules, after.Rules),
		Sinks:    named(before.Sinks, after.Sinks),
		Ranges:   Ranges{Added: beyond(after.Ranges, before.Ranges), GivenUp: beyond(before.Ranges, after.Ranges)},
		Settings: fields(before.Settings, after.Settings),
	}
}

// beyond returns the parts of ranges that others do not hold.
func beyond(ranges, others []keyhook.Range) []string {
	parts := []string{}
	for _, r := range ranges {
		for _, part := range Uncovered(r, others) {
			parts = append(parts, part.String())
		}
	}
	return parts
}

func named(before, after []Item) Named {
	n := Named{Added: []string{}, Removed: []Removed{}, Changed: []Changed{}, Renamed: []Renamed{}}
	old := map[string]*Item{}
	for i := range before {
		old[before[i].Name] = &before[i]
	}
	for _, item := range after {
		from := item.origin(old)
		if from == nil {
			n.Added = append(n.Added, item.Name)
			continue
		}
		delete(old, from.Name)
		if from.Name != item.Name {
			n.Renamed = append(n.Renamed, Renamed{From: from.Name, To: item.Name})
		}
		if changed := fields(from.Fields, item.Fields); len(changed) > 0 {
			n.Changed = append(n.Changed, Changed{Name: item.Name, Fields: changed})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		n.Removed = append(n.Removed, Removed{Name: name})
	}
	slices.Sort(n.Added)
	slices.SortFunc(n.Changed, func(a, b Changed) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(n.Renamed, func(a, b Renamed) int { return cmp.Compare(a.To, b.To) })
	return n
}

// origin returns what i was before; nil if it is new.
func (i *Item) origin(old map[string]*Item) *Item {
	if from := old[i.Name]; from != nil {
		return from
	}
	for _, name := range i.Was {
		if from := old[name]; from != nil {
			return from
		}
	}
	return nil
}

// values of a field.
type values struct {
	texts  []string
	hashes []string
}

// fields returns those that differ, in the order of after; what is gone comes last.
func fields(before, after []Field) []FieldChange {
	var order []string
	gather := func(all []Field) map[string]values {
		of := map[string]values{}
		for _, f := range all {
			v := of[f.Name]
			if f.Hash != nil {
				v.hashes = append(v.hashes, string(f.Hash))
			} else {
				v.texts = append(v.texts, f.Text)
			}
			of[f.Name] = v
			if !slices.Contains(order, f.Name) {
				order = append(order, f.Name)
			}
		}
		return of
	}
	now, old := gather(after), gather(before)
	changed := []FieldChange{}
	for _, name := range order {
		a, b := old[name], now[name]
		if slices.Equal(a.texts, b.texts) && slices.Equal(a.hashes, b.hashes) {
			continue
		}
		changed = append(changed, FieldChange{Field: name, Before: a.texts, After: b.texts, Hidden: len(a.hashes)+len(b.hashes) > 0})
	}
	return changed
}
