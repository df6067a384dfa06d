package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/sinks"
)

// Config is what a Dispatcher needs. Zero fields take the defaults named.
type Config struct {
	Store checkpoint.Store
	Shard uint32
	Term  uint64
	Sinks []Sink

	// MemoryBudget bounds the bytes of deliveries held in memory, whatever is
	// owed. Default 64 MiB.
	MemoryBudget int64
	// UncommittedBudget bounds the bytes admitted and not yet durable; beyond it
	// Admit waits. Default 16 MiB.
	UncommittedBudget int64
	// CommitInterval is the time between two commits. Default 100 ms.
	CommitInterval time.Duration
	// StallAfter is how long work may stay uncommitted before sending and intake
	// stop. Default 5 s.
	StallAfter time.Duration
	// Grace is how long a stop waits for requests in flight. Default 10 s.
	Grace time.Duration

	// Rules is what is known of the rules; nil: nothing, and whatever was admitted
	// stays as it is. See [Dispatcher.SetRules].
	Rules *Rules
	// Head reads linearizably at which revision etcd is: whatever was committed
	// before the call is at or below it. It is asked when a delivery is due that a
	// change may have cancelled which has not been read. Without it, such a
	// delivery never goes out.
	Head func(ctx context.Context) (revision int64, err error)

	// Retention bounds the dead letters that are kept.
	Retention Retention
	// Story makes of a dead letter the delivery that tells of it, for the sink
	// that [Sink.DeadLetterTo] names; nil: there is none to send, as for a
	// dead letter that is such a delivery itself. Its id must depend on the
	// delivery's id and the number only. It must not block, and is called with a
	// lock held.
	Story func(dl *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery

	Logger   *slog.Logger   // default: discards
	Observer Observer       // default: none
	Rand     func() float64 // for jitter, in [0, 1); default math/rand/v2

	breakers func(cfg Breaker) breaker // for tests
}

// Sink is a receiver with the limits and the patience it is served with.
type Sink struct {
	Name        string
	Deliverer   sinks.Sink
	Concurrency int     // attempts in flight at most; default 16
	Rate        float64 // attempts a second at most; 0: no limit
	Retry       Retry
	// Fingerprint changes with the sink's configuration. A hold ends with it, and
	// so does an open breaker.
	Fingerprint string

	Breaker Breaker
	// MaxOwed is how many deliveries may be owed at most; what comes beyond is a
	// dead letter at once. A change that replaces a pending one (on_failure:
	// supersede) does not add to it, and a replay is never refused. 0: no bound.
	MaxOwed int
	// DeadLetterTo is the sink that is told the story of each dead letter; empty:
	// none is. See [Config.Story].
	DeadLetterTo string
}

// Retry says when a failed delivery is tried again, and when it is given up.
type Retry struct {
	Initial     time.Duration // first interval; default 1 s
	Multiplier  float64       // default 2
	Max         time.Duration // longest interval; default 10 min
	Jitter      float64       // share by which an interval varies, both ways
	MaxAttempts int           // the first counts; 0: no limit
	MaxAge      time.Duration // since admission; 0: no limit
}

// Batch is admitted whole: its deliveries, and the positions that say that they
// have been derived, become durable in one commit.
type Batch struct {
	Deliveries []*keyhook.Delivery // in order; Ordinal, Admitted and Retry are set by the dispatcher
	Mirror     []checkpoint.MirrorChange
	Drop       []keyhook.Range         // ranges that are no longer watched
	States     []checkpoint.RangeState // of the ranges behind this batch
	Durable    func()                  // called once the batch is durable; may be nil; must not block
}

// Observer is told what happens, for metrics. Its methods are called from one
// goroutine and must not block.
type Observer interface {
	// Attempt is one request: delivered, retried, dead, held, interrupted, or the
	// last one of a delivery that was purged meanwhile.
	Attempt(sink string, outcome keyhook.Outcome, took time.Duration)
	// Settled is the end of a delivery: delivered, dead, superseded, purged,
	// cancelled or absorbed, and the time since keyhook received its change, or
	// since it became due if its rule made it wait; 0 if it was on disk only.
	Settled(rule, sink string, outcome keyhook.Outcome, endToEnd time.Duration)
	// Expired says that dead letters of a sink were dropped by [Config.Retention].
	Expired(sink string, n int)
	// Committed is one try at a commit.
	Committed(took time.Duration, err error)
}

// Status is a consistent picture of a dispatcher.
type Status struct {
	Sinks       []SinkStatus // by name
	Ranges      []checkpoint.RangeState
	Identity    checkpoint.Identity
	Sequence    uint64 // of the last durable commit
	LastCommit  time.Time
	CommitError string // of the commit that is being tried again
	Stalled     bool   // sending and intake have stopped until commits succeed
	MemoryBytes int64  // deliveries held in memory
	Uncommitted int64  // bytes admitted and not durable
}

// SinkStatus is what one sink is owed.
type SinkStatus struct {
	Name            string
	Configured      bool // false: it still is owed something, but no rule file defines it
	Owed            int64
	OldestAdmitted  time.Time // of what is owed, to the second; zero if nothing is
	DeadLetters     int64
	InFlight        int
	Waiting         int64 // for their time (for, every); not owed yet
	Held            bool  // it asked for nothing more
	HeldSince       time.Time
	Reason          string // of the hold
	Paused          bool   // somebody wants nothing sent
	PausedSince     time.Time
	Breaker         string    // BreakerClosed, BreakerOpen or BreakerHalfOpen
	BreakerUntil    time.Time // when an open breaker lets a probe through
	LastError       string
	LastErrorAt     time.Time
	LastDeliveredAt time.Time
}

// ErrStopped is returned to callers of a dispatcher that is stopping.
var ErrStopped = errors.New("the dispatcher is stopping")

var errNoHead = errors.New("nobody can say at which revision etcd is")

const (
	defaultMemoryBudget      = 64 << 20
	defaultUncommittedBudget = 16 << 20
	defaultCommitInterval    = 100 * time.Millisecond
	defaultStallAfter        = 5 * time.Second
	defaultGrace             = 10 * time.Second
	defaultConcurrency       = 16
)

func (c *Config) setDefaults() error {
	if c.Store == nil {
		return errors.New("dispatcher: no store")
	}
	setDefault(&c.MemoryBudget, defaultMemoryBudget)
	setDefault(&c.UncommittedBudget, defaultUncommittedBudget)
	setDefault(&c.CommitInterval, defaultCommitInterval)
	setDefault(&c.StallAfter, defaultStallAfter)
	setDefault(&c.Grace, defaultGrace)
	if c.Head == nil {
		c.Head = func(context.Context) (int64, error) { return 0, errNoHead }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	for i := range c.Sinks {
		c.Sinks[i].setDefaults()
	}
	return nil
}

func (s *Sink) setDefaults() {
	setDefault(&s.Concurrency, defaultConcurrency)
	setDefault(&s.Retry.Initial, time.Second)
	setDefault(&s.Retry.Multiplier, 2)
	setDefault(&s.Retry.Max, 10*time.Minute)
	s.Breaker.setDefaults(s.Retry.Max)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// nobody observes nothing.
type nobody struct{}

func (nobody) Attempt(string, keyhook.Outcome, time.Duration)         {}
func (nobody) Settled(string, string, keyhook.Outcome, time.Duration) {}
func (nobody) Expired(string, int)                                    {}
func (nobody) Committed(time.Duration, error)                         {}
