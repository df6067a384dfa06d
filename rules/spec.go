package rules

import (
	"time"

	"cel.dev/cel-go/cel"

	"keyhook"
	"keyhook/internal/strictyaml"
)

// File is one rule file.
type File struct {
	Path string // names the file in problems; relative paths in it are relative to its directory
	Data []byte
}

// Options change how files are loaded.
type Options struct {
	// Watch holds the ranges that are watched, where they are given explicitly:
	// keys outside of them are an error, partly outside a warning. Empty means
	// that they are derived from the rules.
	Watch []keyhook.Range
	// Environment is where secrets come from; the zero value means that of the
	// operating system.
	Environment strictyaml.Environment
	// CheckWebhook returns what is wrong with a webhook, in the terms of what
	// will deliver to it; Load adds the places. Nil means a check of the URL and
	// the statuses only.
	CheckWebhook func(WebhookSpec) []FieldProblem
	// CheckNATS does the same for a NATS server. Nil means no check.
	CheckNATS func(NATSSpec) []FieldProblem

	// Previous is the set that the new one will replace, if any: expressions that
	// have not changed are taken from it, which makes a reload fast.
	Previous *Set

	// Lint asks for a closer look at rules that load; what it finds is among the
	// set's warnings, with a code. There must be no Previous then.
	Lint *LintOptions

	language []cel.EnvOption // what tests add to the language
	routes   bool            // whether webhooks have subjects, for tests
}

// SinkSpec is a sink as the files define it, with its defaults filled in.
type SinkSpec struct {
	Name        string
	Was         []string // what it was called before: what is owed to those is owed to it
	Position    strictyaml.Position
	Webhook     *WebhookSpec // one of these two is set
	NATS        *NATSSpec
	Concurrency int     // requests in flight
	Rate        float64 // deliveries a second; 0 means no limit
	Retry       RetrySpec
	// DeadLetter is the sink that is told the story of each dead letter of this
	// one; "" means none.
	DeadLetter string
	Breaker    BreakerSpec
	MaxOwed    int // deliveries that may be owed; 0 means no bound
}

// BreakerSpec says when a sink that is down is left alone. Zero fields mean the
// dispatcher's defaults.
type BreakerSpec struct {
	Off      bool
	Failures int           // in a row, which open it
	Open     time.Duration // for how long at first
	Probes   int           // at once afterwards
}

// WebhookSpec is an HTTP endpoint.
type WebhookSpec struct {
	URL     strictyaml.Secret // may carry a token, so it is never printed
	Headers []HeaderSpec      // sorted by name
	Sign    []strictyaml.Secret
	Timeout time.Duration // of the whole exchange
	// RetryOn and DeadOn are statuses that are to be retried, or to be given up
	// at once, against the default; sorted.
	RetryOn, DeadOn []int
}

// HeaderSpec is a static header of a webhook.
type HeaderSpec struct {
	Name  string
	Value strictyaml.Secret
}

// NATSSpec is a NATS server, or a cluster of them.
type NATSSpec struct {
	URL       strictyaml.Secret // may carry a password, so it is never printed
	JetStream bool              // wait for a stream's acknowledgement
	Stream    string            // which is expected to give it; "" means any
	Request   bool              // wait for an application's reply
	Binary    bool              // CloudEvents in binary mode

	User, Password, Token, NKey strictyaml.Secret
	CredsFile                   string
	TLS                         *NATSTLSSpec // nil: as the server asks
	InboxPrefix                 string       // "" means the client's default
	Timeout                     time.Duration
	MaxPending                  int // messages that wait for an acknowledgement
}

// NATSTLSSpec names files, with paths that are relative to the working
// directory or absolute.
type NATSTLSSpec struct {
	CAFile, CertFile, KeyFile string
	HandshakeFirst            bool
}

// RetrySpec says how long and how often a sink is tried.
type RetrySpec struct {
	Initial     time.Duration // the first interval
	Multiplier  float64       // of one interval to the next
	Max         time.Duration // the longest interval
	Jitter      float64       // 0.2 spreads an interval by 20 % either way
	MaxAttempts int           // the first try included; 0 means no limit
	MaxAge      time.Duration // since admission; 0 means no limit
}

// Defaults of a sink.
const (
	defaultConcurrency = 16
	defaultInFlight    = 256 // messages of a NATS sink that does not wait for replies
	defaultTimeout     = 15 * time.Second
	defaultMaxPending  = 4096 // messages of a NATS sink
)

// defaultRetry returns how a sink is retried that does not say.
func defaultRetry() RetrySpec {
	return RetrySpec{
		Initial:    time.Second,
		Multiplier: 2,
		Max:        10 * time.Minute,
		Jitter:     0.2,
		MaxAge:     72 * time.Hour,
	}
}

// RuleInfo is what there is to know of a rule from the outside.
type RuleInfo struct {
	Name        string
	Was         []string // what it was called before: what those owe it owes
	Description string
	Position    strictyaml.Position
	Keys        []string        // the patterns as they are written
	Ranges      []keyhook.Range // that hold all the keys
	When        string
	Order       keyhook.Order
	OnFailure   keyhook.OnFailure
	Timing      keyhook.Timing
	Per         string // what deliveries share that Timing or Grouped is about; "" for the key
	Grouped     bool   // the changes of a revision are one event
	Gaps        bool   // it is told of gaps in the history
	Sends       []SendInfo
}

// SendInfo is what there is to know of a send.
type SendInfo struct {
	Name, Sink string
}

// Source names the history that events belong to; see [keyhook.DeliveryID].
type Source struct {
	Name  string
	Epoch uint64
}

// Match is a rule whose condition was true.
type Match struct {
	Rule string
}

// EvalError is a condition that failed at run time: a non-match.
type EvalError struct {
	Rule  string
	Err   error          // its text begins with the place of the condition
	Event *keyhook.Event // of a group the first one
}

// Result is what an event came to. Its slices are reused by Reset; the
// deliveries are not.
type Result struct {
	Deliveries []*keyhook.Delivery
	Matches    []Match
	Errors     []EvalError
}

// add takes in what another result holds, if there is one.
func (r *Result) add(o *Result) {
	if o == nil {
		return
	}
	r.Deliveries = append(r.Deliveries, o.Deliveries...)
	r.Matches = append(r.Matches, o.Matches...)
	r.Errors = append(r.Errors, o.Errors...)
}

// Reset empties r for the next event.
func (r *Result) Reset() {
	clear(r.Deliveries)
	clear(r.Errors)
	r.Deliveries, r.Matches, r.Errors = r.Deliveries[:0], r.Matches[:0], r.Errors[:0]
}
