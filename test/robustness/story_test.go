package robustness

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// story is what happened, for whoever has to understand a failure.
type story struct {
	began time.Time

	mu    sync.Mutex
	lines []string
}

func newStory() *story { return &story{began: time.Now()} }

// tell adds a line.
func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.lines = append(s.lines, fmt.Sprintf("%s %8.3fs  %s", now.UTC().Format("15:04:05.000"), now.Sub(s.began).Seconds(), fmt.Sprintf(format, args...)))
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n")
}
