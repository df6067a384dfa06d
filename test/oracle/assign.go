package oracle

import "slices"

// assign finds the change that each attempt is about, nil where there is none,
// and checks content and ids on the way.
func (c *checking) assign() {
	c.of = make([]*change, len(c.attempts))
	ids := make(map[string]*change)
	for i := range c.attempts {
		a := &c.attempts[i]
		var from made
		if c.ID != nil {
			var ok bool
			if from, ok = c.ID.explain(a); !ok {
				c.report.breach(Unique, "the id %s is not the one of %s %q at %d", a.ID, a.Type, a.Key, a.Revision)
			}
		}
		if a.Synthetic && a.Type == Delete {
			c.of[i] = c.assignAbsence(a, ids)
		} else {
			c.of[i] = c.assignChange(a, ids, from)
		}
	}
}

// assignChange finds the change that an attempt tells of.
func (c *checking) assignChange(a *Attempt, ids map[string]*change, from made) *change {
	alike := c.known[identity{a.Key, a.Revision, a.Type}]
	if !a.Synthetic {
		alike = slices.DeleteFunc(slices.Clone(alike), func(s *change) bool { return s.Restored })
	}
	if len(alike) == 0 {
		c.report.breach(Faithful, "%s %q at %d arrived (id %s), which is not in etcd's history", a.Type, a.Key, a.Revision, a.ID)
		return nil
	}
	s := ids[a.ID]
	if s == nil {
		if s = c.choose(a, alike, from); s == nil {
			c.report.breach(Unique, "%s has ids %s and %s", alike[0], alike[0].id, a.ID)
			return alike[0]
		}
		s.id, ids[a.ID] = a.ID, s
	}
	if !slices.Contains(alike, s) {
		c.report.breach(Unique, "id %s stands for %s and for %s", a.ID, s, alike[0])
		return alike[0]
	}
	if !c.agrees(a, s) {
		c.report.breach(Faithful, "%s arrived with another content than etcd holds: %+v prev %+v, not %+v prev %+v", s, *a, a.Prev, *s.Change, s.Prev)
	}
	return s
}

// choose returns the change that a new id stands for, out of those that share
// what the attempt says; nil if all of them have ids already.
func (c *checking) choose(a *Attempt, alike []*change, from made) *change {
	var free []*change
	for _, s := range alike {
		if s.id == "" {
			free = append(free, s)
		}
	}
	if len(free) == 0 {
		return nil
	}
	// The same key and revision may have had different contents before and after
	// a restore; and with one content the epoch tells which of them is meant.
	if agreeing := slices.DeleteFunc(slices.Clone(free), func(s *change) bool { return !c.agrees(a, s) }); len(agreeing) > 0 {
		free = agreeing
	}
	if c.ID != nil && from.epoch > c.ID.FirstEpoch {
		return free[len(free)-1]
	}
	return free[0]
}

// agrees reports whether an attempt says what a change was. A listing does not
// tell what the key held right before, so there anything counts that it once
// held.
func (c *checking) agrees(a *Attempt, s *change) bool {
	if !a.Synthetic {
		return a.tells(s.Change)
	}
	content := *a
	content.Prev = nil
	bare := *s.Change
	bare.Prev = nil
	return content.tells(&bare) && (a.Prev == nil || c.held(a.Key, a.Prev) != nil)
}

// held returns the change that made a key hold what an attempt says it held, nil
// if it never did.
func (c *checking) held(key string, p *Previous) *change {
	for _, s := range c.known[identity{key, p.Revision, Put}] {
		if *p == (Previous{s.Value, s.Revision, s.Created, s.Version, s.Lease}) {
			return s
		}
	}
	return nil
}

// assignAbsence finds the deletion that a synthetic DELETE tells of: in a gap
// that was repaired, behind what the key held last.
func (c *checking) assignAbsence(a *Attempt, ids map[string]*change) *change {
	if a.Prev == nil || a.Prev.Revision != a.Revision || c.held(a.Key, a.Prev) == nil {
		c.report.breach(Faithful, "a synthetic DELETE of %q at %d arrived (id %s) with %+v as what the key held, which it never did", a.Key, a.Revision, a.ID, a.Prev)
		return nil
	}
	if s := ids[a.ID]; s != nil {
		return s
	}
	before := c.held(a.Key, a.Prev)
	taken := false
	for _, g := range c.Gaps {
		for _, s := range slices.Backward(c.byKey[a.Key]) {
			if s.Type != Delete || !g.holds(s.Moment()) || s.place < before.place {
				continue
			}
			if s.told == "" {
				s.told, ids[a.ID] = a.ID, s
				return s
			}
			taken = true
		}
	}
	if taken {
		c.report.breach(Unique, "a DELETE of %q arrived under another id: %s", a.Key, a.ID)
	} else {
		c.report.breach(Faithful, "a synthetic DELETE of %q at %d arrived (id %s), but no gap holds a deletion of it", a.Key, a.Revision, a.ID)
	}
	return nil
}
