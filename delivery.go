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

	Event   *Event
	Message Message
	// Rejected is set where no message could be made; the delivery is a dead
	// letter from the start.
	Rejected *Rejection

	// Ordinal numbers the deliveries of a shard in the order of admission, from 1.
	Ordinal  uint64
	Admitted time.Time
	Retry    Retry
}

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
}

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
	if d.Event != nil {
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

// DeadLetter is a delivery that was given up, with its story. It keeps its
// event, so that it can be rendered again.
type DeadLetter struct {
	Delivery *Delivery
	Reason   Reason
	Error    string
	FailedAt time.Time
}
