package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Era is what happened between two restores of an etcd.
type Era struct {
	// Base is the revision of the snapshot that the era began with, 0 for the
	// first.
	Base int64
	// Changes of later revisions; those up to Base are ignored.
	Changes History
}

// Moment is a place in the history of an etcd that may be restored.
type Moment struct {
	Era      int
	Revision int64
}

// Compare orders moments as they came.
func (m Moment) Compare(o Moment) int {
	return cmp.Or(cmp.Compare(m.Era, o.Era), cmp.Compare(m.Revision, o.Revision))
}

func (m Moment) String() string { return fmt.Sprintf("%d%s", m.Revision, eraSuffix(m.Era)) }

func eraSuffix(era int) string {
	if era == 0 {
		return ""
	}
	return fmt.Sprintf(" (after restore %d)", era)
}

// Moment returns when c happened: for what a restore brought back, the restore.
func (c *Change) Moment() Moment {
	if c.Restored {
		return Moment{c.Era, c.base}
	}
	return Moment{c.Era, c.Revision}
}

// same reports whether two changes leave a key alike. A nil change leaves it
// absent.
func same(a, b *Change) bool {
	if a, b = put(a), put(b); a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && a.Value == b.Value && a.Created == b.Created && a.Version == b.Version && a.Lease == b.Lease
}

// Splice makes one history of the eras of an etcd. Where an era begins it holds,
// for every key that was ever seen, what the restore made of it.
func Splice(eras ...Era) History {
	var spliced History
	held := make(map[string]*Change)  // at the end of what is spliced
	known := make(map[string]History) // per key, the branch that the current era grew out of
	for n, era := range eras {
		if n > 0 {
			branch := make(map[string]History, len(known))
			for _, key := range slices.Sorted(maps.Keys(known)) {
				past := slices.Clip(known[key].upTo(era.Base))
				branch[key] = past
				c := restored(key, past, n, era.Base)
				c.Prev = put(held[key])
				held[key] = c
				spliced = append(spliced, c)
			}
			known = branch
		}
		for _, from := range era.Changes.After(era.Base) {
			c := *from
			c.Era = n
			c.Prev = put(held[c.Key])
			held[c.Key] = &c
			known[c.Key] = append(known[c.Key], &c)
			spliced = append(spliced, &c)
		}
	}
	return spliced
}

// restored returns what a restore makes of a key with the given past.
func restored(key string, past History, era int, base int64) *Change {
	c := &Change{Type: Delete, Key: key, Revision: base}
	if len(past) > 0 && past[len(past)-1].Type == Put {
		copied := *past[len(past)-1]
		c = &copied
	}
	c.Era, c.Restored, c.base = era, true, base
	return c
}

// put returns c if it left something behind, else nil.
func put(c *Change) *Change {
	if c == nil || c.Type == Delete {
		return nil
	}
	return c
}

// upTo returns the changes up to a revision of a single era.
func (h History) upTo(revision int64) History {
	return h[:len(h)-len(h.After(revision))]
}
