package watch

import "sync"

// seen is what was learnt about etcd's revisions, for people only: no position
// depends on it.
type seen struct {
	observer Observer

	mu   sync.Mutex
	last int64
	gone int64
	term uint64 // of the raft
	// election is closed, and replaced, when etcd has another term.
	election chan struct{}
}

func newSeen(o Observer) *seen { return &seen{observer: o, election: make(chan struct{})} }

// sawRevision takes a revision from the header of a response, which may be old.
func (s *seen) sawRevision(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev > s.last {
		s.last = rev
		s.observer.Revision(rev)
	}
}

// sawHead takes what was read linearizably.
func (s *seen) sawHead(h head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = h.revision
	s.observer.Revision(h.revision)
	if s.term != 0 && s.term != h.term {
		close(s.election)
		s.election = make(chan struct{})
	}
	s.term = h.term
}

// elected returns a channel that is closed when etcd has held an election.
func (s *seen) elected() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.election
}

func (s *seen) sawCompacted(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = rev
	s.observer.Compacted(rev)
}

func (s *seen) revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *seen) compacted() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}
