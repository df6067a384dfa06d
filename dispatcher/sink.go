package dispatcher

import (
	"container/heap"
	"math"
	"time"

	"github.com/gammazero/deque"
	"golang.org/x/time/rate"
)

// sink is what the machine knows of a receiver.
type sink struct {
	name       string
	number     uint32
	cfg        Sink
	configured bool          // a deliverer exists in this process
	defined    bool          // the rule files define it
	limiter    *rate.Limiter // nil: no limit
	trickle    *rate.Limiter // of a sink that takes nothing; made when needed

	inFlight int
	// drained is the commit after which a sink that is gone from the rule files
	// may be forgotten; 0 while it is owed something.
	drained uint64

	held        bool // it asked for nothing more
	reason      string
	heldSince   time.Time
	heldPrint   string // fingerprint of the configuration that the hold is about
	paused      bool   // somebody wants nothing sent
	pausedSince time.Time

	evidence evidence
	breaker  breaker // nil: there is none

	ring    deque.Deque[*lane] // lanes with ready chains, in turn
	ready   int                // chains that are ready
	waiting waitingHeap

	coldRing deque.Deque[*lane] // lanes with cold chains that are due, in turn
	parked   parkedHeap         // lanes whose cold chains are due later
	loads    int                // on the way from disk
	loadSize int64              // what a load brings, a moving average

	bytes       int64  // of its deliveries in memory
	total       *int64 // of all sinks
	owed        int64
	timed       int64 // deliveries that wait for their time; not owed yet
	deadLetters int64
	ages        ages

	lastError       string
	lastErrorAt     time.Time
	lastDeliveredAt time.Time
}

// configure takes over a configuration. Another one than before ends a hold, and
// begins with a closed breaker.
func (m *machine) configure(cfg Sink) {
	s := m.sink(cfg.Name)
	if s.held && s.heldPrint != cfg.Fingerprint {
		s.release()
		m.remember(s)
	}
	if !s.configured || s.cfg.Fingerprint != cfg.Fingerprint {
		s.cfg = cfg
		m.setBreaker(s)
	}
	s.cfg = cfg
	s.configured, s.defined, s.drained = true, true, 0
	if cfg.Rate <= 0 {
		s.limiter = nil
		return
	}
	limit := rate.Limit(cfg.Rate)
	if s.limiter == nil || s.limiter.Limit() != limit {
		// A tenth of a second's worth may go at once: enough to keep a low rate
		// even, and a high one reachable.
		s.limiter = rate.NewLimiter(limit, max(1, int(cfg.Rate/10)))
	}
}

// open reports whether the sink may be sent to at all.
func (s *sink) open() bool { return s.configured && !s.held && !s.paused }

func (s *sink) grow(bytes int64) {
	s.bytes += bytes
	*s.total += bytes
}

// A sink that takes nothing is tried at a trickle: otherwise retries of
// everything that it is owed would keep this machine busy, to the cost of the
// other sinks. The first success opens it wide again.
const (
	trickleAfter = 50          // failures in a row,
	trickleSince = failingTime // and how long ago the last success
	trickleRate  = 200         // attempts a second
)

func (s *sink) trickles(wall time.Time) bool {
	return s.evidence.failures >= trickleAfter && wall.Sub(s.lastDeliveredAt) >= trickleSince
}

// permit takes one from the rate, or says when there will be one.
func (s *sink) permit(wall time.Time) (ok bool, wait time.Duration) {
	limiter := s.limiter
	if s.trickles(wall) && (limiter == nil || limiter.Limit() > trickleRate) {
		if s.trickle == nil {
			s.trickle = rate.NewLimiter(trickleRate, 1)
		}
		limiter = s.trickle
	}
	if limiter == nil || limiter.AllowN(wall, 1) {
		return true, 0
	}
	missing := 1 - limiter.TokensAt(wall)
	seconds := math.Ceil(missing/float64(limiter.Limit())*1e9) / 1e9
	return false, max(time.Microsecond, time.Duration(seconds*float64(time.Second)))
}

// makeReady puts a chain into its lane's queue.
func (s *sink) makeReady(c *chain, now instant) {
	c.state, c.due = ready, now
	c.lane.queue.push(c)
	s.ready++
	if c.lane.queue.len() == 1 {
		s.ring.PushBack(c.lane)
	}
}

// nextReady takes the next chain to send, lanes taking turns. There is one. A
// probe of a breaker is one that was never tried, if there is such a one.
func (s *sink) nextReady() *chain {
	var c *chain
	if s.probes() {
		for turns := s.ring.Len(); c == nil && turns > 0; turns-- {
			if c = s.ring.Front().queue.popFresh(); c == nil {
				s.ring.Rotate(1)
			}
		}
	}
	l := s.ring.PopFront()
	if c == nil {
		c = l.queue.pop()
	}
	s.ready--
	if l.queue.len() > 0 {
		s.ring.PushBack(l)
	}
	return c
}

// makeWaiting lets a chain wait until it is due.
func (s *sink) makeWaiting(c *chain, due instant) {
	c.state, c.due = waiting, due
	heap.Push(&s.waiting, c)
}

// placeCold puts a lane where its first cold chain belongs: after any change to
// the lane's cold index.
func (s *sink) placeCold(l *lane, now instant) {
	switch {
	case l.inRing:
	case l.cold.len() == 0:
		if l.parked {
			heap.Remove(&s.parked, l.place)
			l.parked = false
		}
	case l.cold.top().due <= now:
		if l.parked {
			heap.Remove(&s.parked, l.place)
			l.parked = false
		}
		l.inRing = true
		s.coldRing.PushBack(l)
	case l.parked:
		heap.Fix(&s.parked, l.place)
	default:
		l.parked = true
		heap.Push(&s.parked, l)
	}
}

// tick makes ready what has become due, in memory and on disk.
func (s *sink) tick(now instant) {
	for len(s.waiting) > 0 && s.waiting[0].due <= now {
		c := s.waiting[0]
		heap.Pop(&s.waiting)
		s.makeReady(c, now)
	}
	for len(s.parked) > 0 && s.parked[0].cold.top().due <= now {
		l := s.parked[0]
		heap.Pop(&s.parked)
		l.parked = false
		s.placeCold(l, now)
	}
}

// wake returns when tick has something to do, if ever.
func (s *sink) wake() (at instant, ok bool) {
	at = math.MaxInt64
	if len(s.waiting) > 0 {
		at = s.waiting[0].due
	}
	if len(s.parked) > 0 {
		at = min(at, s.parked[0].cold.top().due)
	}
	return at, at != math.MaxInt64
}
