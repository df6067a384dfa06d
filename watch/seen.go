package watch

import "sync"

// seen is what was learnt about etcd's revisions, for people only: no position
// depends on it.
type seen struct {
	observer Observer

	mu   sync.Mutex
	last int64
	gone int64
}

// sawRevision takes a revision from the header of a response, which may be old.
func (s *seen) sawRevision(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev > s.last {
		s.last = rev
		s.observer.Revision(rev)
	}
}

// sawHead takes a revision that was read linearizably.
func (s *seen) sawHead(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = rev
	s.observer.Revision(rev)
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
