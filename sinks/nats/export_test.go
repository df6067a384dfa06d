package nats

// Dialing reports whether an attempt to connect is under way.
func Dialing(s *Sink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialing != nil
}

// BinaryMode is binaryMode.
var BinaryMode = binaryMode

// BeforeSequence is beforeSequence.
var BeforeSequence = beforeSequence
