package dispatcher

import (
	"container/heap"
	"slices"
	"strings"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/sinks"
)

// machine decides everything and does nothing: it has no clock, no goroutine,
// no randomness and no I/O. Whoever drives it tells it the time and carries out
// what nextSends, nextLoads and cut return.
type machine struct {
	shard  uint32
	term   uint64
	budget int64
	jitter func() float64

	retention  Retention
	story      func(dl *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery
	newBreaker func(cfg Breaker) breaker

	start time.Time // the wall clock at instant 0
	total int64     // bytes of deliveries in memory

	sinks    map[string]*sink
	order    []*sink // by name
	numbered []*sink // by their number; nil: it is free
	lanes    map[laneName]*lane
	numbers  map[uint32]*lane
	nextLane uint32

	nextOrdinal     uint64
	sequence        uint64 // of the last cut
	cutOrdinal      uint64 // nextOrdinal at the last cut
	cutBytes        int64  // of the last cut, until it is durable
	callbacks       []func()
	durable         uint64 // what was admitted below this ordinal is durable, or settled
	durableSequence uint64
	pend            pending
	parked          []*chain
	barred          map[place]uint64          // commits that chains have to wait for; see bar
	purged          map[checkpoint.Ref]uint64 // what reads of the disk may still find; see forgetPurged
	lookups         int                       // calls that ask the store what to purge
	letters         letters
	stories         []*keyhook.Delivery // to be admitted

	rules      *Rules // nil: nothing is known of them
	sends      map[laneName]*Send
	timedLanes map[uint32]*lane // by the number of their timed lane
	timers     timers
	held       map[uint64]*item // in memory, of what waits for its time, by ordinal
	heldBytes  int64
	overdue    []*timer // that wait for reading
	latest     instant  // when the last of them was due
	reading    reading
	toFetch    []fetch
	fetching   int
	telling    bool // they are being admitted

	// What has happened since it was last reported.
	ends    []end
	turns   []turn         // of breakers
	expired map[string]int // dead letters, by sink
}

// moment is what the machine is told of the time.
type moment struct {
	now  instant
	wall time.Time // carries the monotonic reading where there is one
}

// end is the end of a delivery, to be reported.
type end struct {
	lane    *lane
	d       *keyhook.Delivery // nil if it was purged on disk
	outcome keyhook.Outcome
	reason  keyhook.Reason
	err     string
}

// send is a delivery to attempt now.
type send struct {
	sink *sink
	item *item
}

func newMachine(cfg *Config) *machine {
	m := &machine{
		shard: cfg.Shard, term: cfg.Term, budget: cfg.MemoryBudget, jitter: cfg.Rand,
		retention: cfg.Retention, story: cfg.Story, rules: cfg.Rules, newBreaker: newBreaker, expired: make(map[string]int),
		sinks: make(map[string]*sink), lanes: make(map[laneName]*lane), numbers: make(map[uint32]*lane),
		nextOrdinal: 1, nextLane: 1, timedLanes: make(map[uint32]*lane), latest: past, reading: reading{asked: past},
	}
	if cfg.breakers != nil {
		m.newBreaker = cfg.breakers
	}
	for _, s := range cfg.Sinks {
		m.configure(s)
	}
	return m
}

func (m *machine) sink(name string) *sink {
	s := m.sinks[name]
	if s == nil {
		s = &sink{name: name, total: &m.total, loadSize: int64(m.maxLoad())}
		m.number(s)
		s.cfg.Name = name
		s.cfg.setDefaults()
		m.sinks[name] = s
		at, _ := slices.BinarySearchFunc(m.order, name, func(s *sink, name string) int { return strings.Compare(s.name, name) })
		m.order = slices.Insert(m.order, at, s)
	}
	return s
}

// number gives s the first number that is free.
func (m *machine) number(s *sink) {
	i := slices.Index(m.numbered, nil)
	if i < 0 {
		i = len(m.numbered)
		m.numbered = append(m.numbered, nil)
	}
	m.numbered[i], s.number = s, uint32(i) //nolint:gosec // there are not so many sinks
}

func (m *machine) lane(d *keyhook.Delivery) *lane {
	name := laneName{d.Rule, d.Send, d.Sink}
	if l := m.lanes[name]; l != nil {
		return l
	}
	l := m.addLane(m.nextLane, name, m.sink(d.Sink))
	m.pend.lanes = append(m.pend.lanes, l.checkpoint(false))
	return l
}

func (m *machine) addLane(number uint32, name laneName, s *sink) *lane {
	l := &lane{number: number, name: name, sink: s, chains: make(map[uint64]*chain)}
	m.lanes[name], m.numbers[number] = l, l
	m.nextLane = max(m.nextLane, number+1)
	m.instruct(l)
	return l
}

// admit takes a batch.
func (m *machine) admit(t moment, b *Batch) {
	for _, d := range b.Deliveries {
		switch {
		case d.Cancels:
			m.cancel(t, d)
		case d.Timing.IsZero() || d.Rejected != nil:
			m.overtake(d)
			m.admitOne(t, m.item(t, d))
		default:
			m.arrive(t, d)
		}
	}
	m.tellStories(t)
	m.pend.add(b)
}

// item makes an item of a delivery that is new.
func (m *machine) item(t moment, d *keyhook.Delivery) *item {
	d.Ordinal, d.Admitted = m.nextOrdinal, t.wall.Round(0)
	m.nextOrdinal++
	it := &item{d: d, lane: m.lane(d), chain: chainID(d), size: int64(d.Size()), admitted: t.now}
	m.pend.bytes += it.size
	return it
}

func (m *machine) admitOne(t moment, it *item) {
	if r := it.d.Rejected; r != nil {
		m.stillborn(t, it, r.Reason, r.Error)
	} else if why, full := it.lane.sink.full(); full && !replaces(it) {
		m.stillborn(t, it, keyhook.ReasonOverflow, why)
	} else {
		m.owe(t, it)
	}
}

// owe takes over a delivery.
func (m *machine) owe(t moment, it *item) {
	s := it.lane.sink
	s.owed++
	s.ages.add(it.d.Admitted.Unix())
	m.pend.fresh = append(m.pend.fresh, it)
	it.after = max(it.after, m.barred[place{it.lane.number, it.chain}])
	m.enqueue(t, it)
}

// enqueue puts a new delivery at the end of its chain: in memory if there is
// room and nothing of the chain is on disk only.
func (m *machine) enqueue(t moment, it *item) {
	l, s := it.lane, it.lane.sink
	fits := m.room(t, s, it.size) // first: making room may move this very chain
	if c := l.chains[it.chain]; c != nil {
		switch {
		case c.cold == 0 && it.d.OnFailure == keyhook.Supersede && c.state != loading:
			m.supersede(c, it)
		case c.cold > 0 || c.state == loading || !fits:
			m.stage(t, c, it)
		default:
			c.push(it)
		}
		return
	}
	if n := l.cold.grow(it.chain, it.d.Ordinal); n > 0 {
		if it.d.OnFailure == keyhook.Supersede && n >= collapseAt {
			l.cold.hasten(it.chain, t.now)
			s.placeCold(l, t.now)
		}
		return
	}
	if !fits {
		l.cold.put(coldChain{id: it.chain, from: it.d.Ordinal, last: it.d.Ordinal, due: t.now, count: 1})
		s.placeCold(l, t.now)
		return
	}
	c := &chain{id: it.chain, lane: l}
	c.push(it)
	l.chains[c.id] = c
	s.makeReady(c, t.now)
}

// stage counts a delivery that will be on disk only, behind the others of its
// chain.
func (m *machine) stage(t moment, c *chain, it *item) {
	if c.cold == 0 {
		c.coldFrom = it.d.Ordinal
	}
	c.cold++
	c.coldLast = it.d.Ordinal
	if it.d.OnFailure == keyhook.Supersede && c.cold >= collapseAt && c.state == waiting && m.clean(c) {
		s := c.lane.sink
		heap.Remove(&s.waiting, c.place)
		m.cool(t, c, t.now)
	}
}

// supersede makes it the only pending delivery of its key. It takes over the
// backoff of what it replaces: a key that changes often must not press a sink
// that fails.
func (m *machine) supersede(c *chain, it *item) {
	var kept *item
	if c.state == sending {
		kept = c.pop()
	}
	var rest []*item
	for c.head != nil {
		old := c.pop()
		if string(old.d.ChainKey()) != string(it.d.ChainKey()) {
			rest = append(rest, old)
			continue
		}
		it.retry.Interval, it.retry.Due = old.retry.Interval, old.retry.Due
		m.settle(old, keyhook.Superseded, "", "")
		c.after = m.sequence + 1
	}
	if kept != nil {
		c.push(kept)
	}
	for _, old := range rest {
		c.push(old)
	}
	c.push(it)
}

// nextSends returns what to attempt now, and how long the rates make the rest wait (0:
// not at all).
func (m *machine) nextSends(t moment) (sends []send, wait time.Duration) {
	for _, s := range m.order {
		if !s.open() {
			continue
		}
		for s.inFlight < s.cfg.Concurrency && s.ring.Len() > 0 {
			ended, w, ok := s.mayTry(t)
			if !ok {
				if w > 0 && (wait == 0 || w < wait) {
					wait = w
				}
				break
			}
			c := s.nextReady()
			switch {
			case c.waitsFor() > m.durableSequence:
				ended(nothing)
				m.park(c)
				continue
			case c.head == nil: // it was purged
				ended(nothing)
				m.advance(t, c)
				continue
			}
			c.state = sending
			s.inFlight++
			c.head.attempted = ended
			sends = append(sends, send{s, c.head})
		}
	}
	return sends, wait
}

// result takes the outcome of an attempt.
func (m *machine) result(t moment, it *item, err error) keyhook.Outcome {
	outcome := m.settleAttempt(t, it, err)
	m.tellStories(t)
	return outcome
}

func (m *machine) settleAttempt(t moment, it *item, err error) keyhook.Outcome {
	s := it.lane.sink
	s.inFlight--
	m.judge(t, s, it, err)
	c := it.lane.chains[it.chain]
	if err == nil {
		s.lastDeliveredAt = t.wall
		c.pop()
		m.settle(it, keyhook.Delivered, "", "")
		m.advance(t, c)
		return keyhook.Delivered
	}
	s.lastError, s.lastErrorAt = err.Error(), t.wall
	kind := sinks.KindOf(err)
	if it.purge {
		if kind == sinks.Hold {
			m.hold(t, s, err.Error())
		}
		c.pop()
		m.settle(it, keyhook.Purged, "", "")
		m.giveUp(t, c, it)
		return keyhook.Purged
	}
	switch kind {
	case sinks.Interrupted:
		s.makeReady(c, t.now)
		return keyhook.Interrupted
	case sinks.Hold:
		m.hold(t, s, err.Error())
		it.retry.Error = err.Error()
		m.retouch(it)
		s.makeReady(c, t.now)
		return keyhook.Held
	case sinks.Rejected:
		it.retry.Attempts++
		c.pop()
		m.bury(t, it, reasonOf(err), err.Error())
		m.giveUp(t, c, it)
		return keyhook.Dead
	default:
		return m.retry(t, c, it, err)
	}
}

// retry lets a failed delivery wait, or gives it up.
func (m *machine) retry(t moment, c *chain, it *item, err error) keyhook.Outcome {
	s := it.lane.sink
	r := s.cfg.Retry
	it.retry.Attempts++
	it.retry.Error = err.Error()
	age := time.Duration(t.now - it.admitted)
	byAttempts, byAge := r.exhausted(it.retry.Attempts, age)
	switch {
	case byAttempts, byAge:
		c.pop()
		reason := keyhook.ReasonMaxAttempts
		if !byAttempts {
			reason = keyhook.ReasonMaxAge
		}
		m.bury(t, it, reason, err.Error())
		m.giveUp(t, c, it)
		return keyhook.Dead
	case it.d.OnFailure == keyhook.Supersede && c.superseded():
		interval := r.next(it.retry.Interval)
		c.pop()
		c.head.retry.Interval, c.head.retry.Due = interval, t.wall.Add(r.jittered(interval, m.jitter()))
		m.retouch(c.head)
		m.settle(it, keyhook.Superseded, "", "")
		c.after = m.sequence + 1
		m.rest(t, c)
		return keyhook.Retried
	}
	it.retry.Interval = r.next(it.retry.Interval)
	delay := max(r.jittered(it.retry.Interval, m.jitter()), r.allowed(retryAfter(err), age))
	it.retry.Due = t.wall.Add(delay)
	m.retouch(it)
	m.rest(t, c)
	return keyhook.Retried
}

// superseded reports whether a newer change of the head's key waits behind it.
func (c *chain) superseded() bool {
	for it := c.head.next; it != nil; it = it.next {
		if it.d.OnFailure == keyhook.Supersede && string(it.d.ChainKey()) == string(c.head.d.ChainKey()) {
			return it == c.head.next
		}
	}
	return false
}

// rest makes a chain ready, or lets it wait, as its head is due.
func (m *machine) rest(t moment, c *chain) {
	s := c.lane.sink
	delay := c.head.retry.Due.Sub(t.wall)
	if c.head.retry.Due.IsZero() || delay <= 0 {
		s.makeReady(c, t.now)
		return
	}
	// A wall clock that has jumped must not make a delivery wait for ever.
	s.makeWaiting(c, t.now+instant(min(delay, s.cfg.Retry.longest())))
}

// advance goes on with a chain whose head has gone.
func (m *machine) advance(t moment, c *chain) {
	switch {
	case c.head != nil:
		m.rest(t, c)
	case c.cold > 0:
		m.cool(t, c, max(t.now, c.due))
	default:
		delete(c.lane.chains, c.id)
	}
}

// giveUp goes on with a chain whose head is dead: not before that is durable.
func (m *machine) giveUp(t moment, c *chain, it *item) {
	if it.d.Order == keyhook.OrderKey {
		c.after = m.sequence + 1
		m.park(c)
		return
	}
	m.advance(t, c)
}

// park lets a chain wait for the commit that it must follow.
func (m *machine) park(c *chain) {
	c.state = parked
	m.parked = append(m.parked, c)
}

// unpark goes on with the chains whose commit is durable.
func (m *machine) unpark(t moment) {
	kept := m.parked[:0]
	for _, c := range m.parked {
		if c.waitsFor() > m.durableSequence {
			kept = append(kept, c)
			continue
		}
		m.advance(t, c)
	}
	clear(m.parked[len(kept):])
	m.parked = kept
}

// settle ends a delivery that is no longer in its chain.
func (m *machine) settle(it *item, o keyhook.Outcome, reason keyhook.Reason, text string) {
	s := it.lane.sink
	s.owed--
	s.ages.remove(it.d.Admitted.Unix())
	it.settled = true
	if it.written {
		m.pend.settled = append(m.pend.settled, it.ref())
	}
	m.ends = append(m.ends, end{it.lane, it.d, o, reason, text})
}

// retouch sees to it that the next commit holds the item's retry state.
func (m *machine) retouch(it *item) {
	if it.written && !it.retried {
		it.retried = true
		m.pend.retried = append(m.pend.retried, it)
	}
}
