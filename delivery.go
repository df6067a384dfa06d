package keyhook

import "time"

// Delivery is one message that a rule owes to a sink because of one event.
//
// Everything but Ordinal and Retry is fixed when the rules are evaluated: the
// message is rendered then, so that a later reload cannot change a pending
// retry. Ordinal and Retry belong to the dispatcher.
type Delivery struct {
	// ID is stable over retries, crashes and replays; see DeliveryID.
	ID   string
	Rule string
	Send string
	Sink string

	Order     Order
	OnFailure OnFailure

	// Chain is what deliveries of the send share to belong together: they keep
	// their order, and Timing is about them. Empty means the key of Event; see
	// [Delivery.ChainKey].
	Chain  []byte
	Timing Timing
	// Cancels makes d no delivery but the news that the condition of the rule
	// does not hold for the chain any more: what is held is dropped, and what has
	// gone out does not keep a new one back. It is never sent, stored or counted
	// as owed; it has no ID and no Message.
	Cancels bool

	Event *Event
	// Group are all the changes that d is about, in order, where its rule takes
	// those of a transaction together; Event is the first of them. Nil otherwise.
	Group   []*Event
	Message Message
	// Rejected is set where no message could be made; the delivery is a dead
	// letter from the start.
	Rejected *Rejection

	// Ordinal numbers the deliveries of a shard in the order of admission, from 1.
	Ordinal  uint64
	Admitted time.Time
	Retry    Retry
}

// ChainKey returns what tells the chains of a send apart.
func (d *Delivery) ChainKey() []byte {
	if len(d.Chain) > 0 {
		return d.Chain
	}
	return d.Event.Key
}

// Timing says when a delivery may go out, and what becomes of others of its
// chain that come meanwhile. The zero value: at once, and nothing. Spans are
// counted from the admission, over restarts. docs/architecture.md, "Time", has
// the states.
type Timing struct {
	// For is how long the condition must have held: the delivery waits, until a
	// cancellation drops it. Others of the chain are absorbed by it, and by what
	// it leaves behind when it has gone out, until a cancellation comes.
	For time.Duration
	// Every is how long the chain is quiet after a delivery: others wait for the
	// end of that time, the newest in place of those before it.
	Every time.Duration
}

// IsZero reports whether t asks for nothing.
func (t Timing) IsZero() bool { return t == Timing{} }

// Order says which deliveries of a send wait for each other.
type Order uint8

const (
	// OrderKey keeps the changes of one key in order; the default.
	OrderKey Order = iota
	// OrderNone lets every delivery go by itself.
	OrderNone
)

// OnFailure says what the changes behind a failing one do.
type OnFailure uint8

const (
	// Block makes later changes of the key wait until this one settles or is
	// dead; the default.
	Block OnFailure = iota
	// Supersede lets the newest pending change of a key replace older ones.
	Supersede
)

// Message is the rendered content of a delivery.
type Message struct {
	ContentType string
	Headers     []Header // as rendered by the rule; the sink adds its own
	Body        []byte
	Subject     string // for sinks that route by subject
}

// Header is one header of a message.
type Header struct {
	Name, Value string
}

// Retry is how far the attempts of a delivery have come.
type Retry struct {
	Attempts int           // finished attempts
	Interval time.Duration // the backoff interval last used, without jitter; 0 before the first
	Due      time.Time     // not before; the zero time before the first attempt
	Error    string        // of the last attempt, free of secrets
	// Stage says whether the delivery is owed yet: Due is then when it will be.
	Stage Stage
}

// Stage is what a delivery with a [Timing] is, as far as its time is concerned.
type Stage uint8

const (
	// Owed is like any other delivery.
	Owed Stage = iota
	// Holding waits until its condition has held for long enough. It can be
	// cancelled.
	Holding
	// Waiting waits for the end of a quiet time. A newer one takes its place.
	Waiting
	// Quiet is no delivery, but a marker: its chain is quiet until Due.
	Quiet
	// Standing is a marker: what went out still holds, so that no other goes out.
	// Where Due is set, its chain is quiet until then as well.
	Standing
)

// Known reports whether s is one of the stages.
func (s Stage) Known() bool { return s <= Standing }

// Marker reports whether s stands for no delivery.
func (s Stage) Marker() bool { return s == Quiet || s == Standing }

// Rejection says why no message could be made.
type Rejection struct {
	Reason Reason
	Error  string
}

// Size returns the bytes that d holds in memory, near enough for a budget.
func (d *Delivery) Size() int {
	n := deliveryOverhead + len(d.ID) + len(d.Message.Body) + len(d.Message.Subject)
	for _, h := range d.Message.Headers {
		n += len(h.Name) + len(h.Value)
	}
	n += len(d.Chain)
	switch {
	case d.Group != nil: // Event is the first of them
		for _, e := range d.Group {
			n += e.Size()
		}
	case d.Event != nil:
		n += d.Event.Size()
	}
	return n
}

const deliveryOverhead = 400

// Outcome is how a delivery, or an attempt at one, ended. Its values are label
// values of metrics.
type Outcome string

// Outcomes.
const (
	Delivered   Outcome = "delivered"
	Retried     Outcome = "retried"     // an attempt failed, another follows
	Dead        Outcome = "dead"        // became a dead letter
	Superseded  Outcome = "superseded"  // replaced by a newer change of its key
	Purged      Outcome = "purged"      // removed by somebody before it was delivered
	Cancelled   Outcome = "cancelled"   // the condition did not hold as long as its rule asks
	Absorbed    Outcome = "absorbed"    // the same condition has been waiting, or has gone out, already
	Held        Outcome = "held"        // the sink asked to stop; the delivery stays owed
	Interrupted Outcome = "interrupted" // cut off by a stop; spends no attempt
)

// Reason is why a delivery became a dead letter.
type Reason string

// Reasons.
const (
	ReasonRejected    Reason = "rejected"     // the sink refused it for good
	ReasonMaxAttempts Reason = "max_attempts" // retry.max_attempts was reached
	ReasonMaxAge      Reason = "max_age"      // retry.max_age was reached
	ReasonRender      Reason = "render"       // a body, header or subject failed to render
	ReasonLimit       Reason = "limit"        // an expression exceeded a limit
	ReasonPanic       Reason = "panic"        // an expression or a sink panicked
	ReasonOverflow    Reason = "overflow"     // the sink's max_owed was reached
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonRejected, ReasonMaxAttempts, ReasonMaxAge, ReasonRender, ReasonLimit, ReasonPanic, ReasonOverflow,
	}
}

// DeadLetter is a delivery that was given up, with its story. It keeps its
// event, so that it can be rendered again.
type DeadLetter struct {
	Delivery *Delivery
	Reason   Reason
	Error    string
	FailedAt time.Time
}
