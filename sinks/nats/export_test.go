package nats

import (
	"slices"

	natsgo "github.com/nats-io/nats.go"
)

// Dialing reports whether an attempt to connect is under way.
func Dialing(s *Sink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialing != nil
}

// Connected reports whether there is a connection.
func Connected(s *Sink) bool {
	conn := connection(s)
	return conn != nil && conn.IsConnected()
}

// Knows reports whether the server at an address has been learned of.
func Knows(s *Sink, address string) bool {
	conn := connection(s)
	return conn != nil && slices.Contains(conn.DiscoveredServers(), "nats://"+address)
}

func connection(s *Sink) *natsgo.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return nil
	}
	select {
	case <-s.link.ready:
		return s.link.conn
	default:
		return nil
	}
}

// BinaryMode is binaryMode.
var BinaryMode = binaryMode

// BeforeSequence is beforeSequence.
var BeforeSequence = beforeSequence
