package nats

import natsgo "github.com/nats-io/nats.go"

// outbox holds the messages of one call of Deliver. It is used again, with the
// maps and slices that it has: the client library keeps nothing of a message that
// it has published.
type outbox struct {
	msgs   []outgoing
	tokens []uint64 // of the questions that were asked
}

// outgoing is a message about the delivery at an index.
type outgoing struct {
	natsgo.Msg
	index  int
	values []string // of the headers
}

// next returns an empty message at the end of the box.
func (b *outbox) next() *outgoing {
	if n := len(b.msgs); n < cap(b.msgs) {
		b.msgs = b.msgs[:n+1]
	} else {
		b.msgs = append(b.msgs, outgoing{})
	}
	m := b.last()
	if m.Header == nil {
		m.Header = make(natsgo.Header)
	}
	return m
}

func (b *outbox) last() *outgoing { return &b.msgs[len(b.msgs)-1] }

// drop takes the last message out.
func (b *outbox) drop() {
	b.last().clear()
	b.msgs = b.msgs[:len(b.msgs)-1]
}

// empty takes all of them out, and lets go of what they hold.
func (b *outbox) empty() {
	for i := range b.msgs {
		b.msgs[i].clear()
	}
	b.msgs, b.tokens = b.msgs[:0], b.tokens[:0]
}

func (m *outgoing) clear() {
	clear(m.Header)
	clear(m.values)
	*m = outgoing{Msg: natsgo.Msg{Header: m.Header}, values: m.values[:0]}
}

// set makes value the only one of a header.
func (m *outgoing) set(name, value string) {
	m.values = append(m.values, value)
	n := len(m.values)
	m.Header[name] = m.values[n-1 : n : n]
}

// add appends a value to a header.
func (m *outgoing) add(name, value string) {
	if have := m.Header[name]; len(have) > 0 {
		m.Header[name] = append(have, value)
		return
	}
	m.set(name, value)
}
