package dispatcher

// tick makes ready what has become due, and lets dead letters expire.
func (m *machine) tick(t moment) {
	m.expire(t.wall)
	m.fire(t)
	for _, s := range m.order {
		s.tick(t.now)
	}
}

// wake returns when tick has something to do, if ever.
func (m *machine) wake() (at instant, ok bool) {
	at, ok = m.timers.wake()
	if w, some := m.wakeSinks(); some && (!ok || w < at) {
		at, ok = w, true
	}
	return at, ok
}

func (m *machine) wakeSinks() (at instant, ok bool) {
	for _, s := range m.order {
		if w, some := s.wake(); some && (!ok || w < at) {
			at, ok = w, true
		}
	}
	return at, ok
}
