package rules

import (
	"reflect"

	"keyhook/internal/strictyaml"
)

// ruleFile is a file as people write it.
type ruleFile struct {
	// Where deliveries go.
	Sinks []*sinkEntry `yaml:"sinks"`
	// Which changes are delivered, to which sinks, as what.
	Rules []*ruleEntry `yaml:"rules"`
}

type sinkEntry struct {
	Position strictyaml.Position `yaml:",position" oneof:"webhook|nats"`
	// What sends, commands and metrics call it; unique over all rule files.
	Name strictyaml.At[string] `yaml:"name,required"`
	// Earlier names of the sink: what it was owed under them goes on.
	Was oldNames `yaml:"was"`
	// An HTTP endpoint.
	Webhook *webhookEntry `yaml:"webhook"`
	// A NATS server, or a cluster of them.
	NATS *natsEntry `yaml:"nats"`
	// Requests in flight.
	Concurrency *strictyaml.At[int] `yaml:"concurrency" unset:"16, for NATS 256" min:"1" max:"10000"`
	// Attempts, at most.
	Rate *strictyaml.Rate `yaml:"rate" unset:"no limit"`
	// How long and how often a delivery is tried.
	Retry *retryEntry `yaml:"retry"`
	// The sink that is told the story of each dead letter of this one, as a
	// CloudEvent of type `keyhook.dead_letter`; to NATS on the subject
	// `keyhook.dead_letter`.
	DeadLetter strictyaml.At[string] `yaml:"dead_letter"`
	// When nothing more is sent to a sink that seems to be down.
	Breaker *breakerEntry `yaml:"breaker" unset:"on"`
	// Deliveries that may be owed; what comes beyond is a dead letter at once
	// (`reason: overflow`). 0: no bound but the disk.
	MaxOwed *strictyaml.At[int] `yaml:"max_owed" default:"0" min:"0"`
}

type webhookEntry struct {
	Position strictyaml.Position `yaml:",position"`
	// Trusted, loopback and private networks included; link-local and cloud
	// metadata addresses are refused.
	URL strictyaml.At[strictyaml.Secret] `yaml:"url,required"`
	// Sent with every request.
	Headers map[string]strictyaml.At[strictyaml.Secret] `yaml:"headers"`
	// Standard Webhooks signatures; several secrets are a rotation.
	Sign []signEntry `yaml:"sign"`
	// Of the whole exchange, body included.
	Timeout *strictyaml.At[strictyaml.Duration] `yaml:"timeout" default:"15s"`
	// Statuses from 300 to 599 that are retried, against the default.
	RetryOn *strictyaml.At[[]int] `yaml:"retry_on"`
	// Statuses from 300 to 599 that make a dead letter at once, against the
	// default.
	DeadOn *strictyaml.At[[]int] `yaml:"dead_on"`
}

type signEntry struct {
	// `whsec_` and base64 of 24 to 64 bytes (HMAC-SHA256), or `whsk_` and
	// base64 of an ed25519 private key.
	Secret strictyaml.At[strictyaml.Secret] `yaml:"secret,required"`
}

type natsEntry struct {
	Position strictyaml.Position `yaml:",position" mostone:"user|token|nkey|creds_file"`
	// `nats://` or `tls://`; several servers of a cluster are separated by
	// commas. A user in it is secret.
	URL strictyaml.At[strictyaml.Secret] `yaml:"url,required"`
	// Wait for the acknowledgement of a stream.
	JetStream *strictyaml.At[bool] `yaml:"jetstream" default:"false"`
	// The stream that is to store the messages; looked for at the start and on
	// each connection.
	Stream *strictyaml.At[string] `yaml:"stream" unset:"any"`
	// Wait for a reply of whoever listens.
	Request *strictyaml.At[bool] `yaml:"request" default:"false"`
	// How CloudEvents are sent: as one JSON object, or with attributes as
	// `ce-` headers and the data as the body.
	CloudEvents *strictyaml.At[string] `yaml:"cloudevents" default:"structured" enum:"structured|binary"`
	// With a password.
	User *strictyaml.At[strictyaml.Secret] `yaml:"user"`
	// Of the user.
	Password *strictyaml.At[strictyaml.Secret] `yaml:"password"`
	// In place of a user.
	Token *strictyaml.At[strictyaml.Secret] `yaml:"token"`
	// The seed of a user.
	NKey *strictyaml.At[strictyaml.Secret] `yaml:"nkey"`
	// A user's JWT and seed; read again for each connection.
	CredsFile *strictyaml.At[string] `yaml:"creds_file"`
	// Insists on TLS; without it TLS is used where the server asks for it.
	TLS *natsTLSEntry `yaml:"tls"`
	// Acknowledgements arrive below it, where the user must be allowed to
	// subscribe.
	InboxPrefix *strictyaml.At[string] `yaml:"inbox_prefix" unset:"_INBOX"`
	// Of an attempt, connecting included.
	Timeout *strictyaml.At[strictyaml.Duration] `yaml:"timeout" default:"15s"`
	// Messages that wait for an acknowledgement at once.
	MaxPending *strictyaml.At[int] `yaml:"max_pending" default:"4096" min:"1" max:"1000000"`
}

type natsTLSEntry struct {
	// The authorities to trust; read again for each connection, as the others.
	CAFile *strictyaml.At[string] `yaml:"ca_file" unset:"the system's"`
	// The client's certificate.
	CertFile *strictyaml.At[string] `yaml:"cert_file"`
	// The client's key.
	KeyFile *strictyaml.At[string] `yaml:"key_file"`
	// For servers that expect TLS before anything else.
	HandshakeFirst bool `yaml:"handshake_first" default:"false"`
}

type retryEntry struct {
	// The first interval.
	Initial *strictyaml.At[strictyaml.Duration] `yaml:"initial" default:"1s"`
	// Of one interval to the next.
	Multiplier *strictyaml.At[float64] `yaml:"multiplier" default:"2" min:"1" max:"100"`
	// The longest interval.
	Max *strictyaml.At[strictyaml.Duration] `yaml:"max" default:"10m"`
	// The share by which an interval varies.
	Jitter *strictyaml.At[float64] `yaml:"jitter" default:"0.2" min:"0" max:"1"`
	// The first try counts; 0: no limit.
	MaxAttempts *strictyaml.At[int] `yaml:"max_attempts" default:"0" min:"0"`
	// Since the change was admitted, judged after a failed attempt; 0: no
	// limit.
	MaxAge *strictyaml.Duration `yaml:"max_age" default:"72h"`
}

// breakerEntry is a map, or "off".
type breakerEntry struct {
	off bool
	breakerFields
}

type breakerFields struct {
	// Failures in a row that open it.
	Failures *strictyaml.At[int] `yaml:"failures" default:"5" min:"1" max:"10000"`
	// For how long nothing is sent at first; doubles up to a minute while
	// probes fail.
	Open *strictyaml.At[strictyaml.Duration] `yaml:"open" default:"10s" unset:"at most retry.max"`
	// Attempts at once afterwards; all have to succeed.
	Probes *strictyaml.At[int] `yaml:"probes" default:"1" min:"1" max:"100"`
}

// DecodeYAML implements [strictyaml.Decoder]. Some programs that write YAML turn
// off into false.
func (e *breakerEntry) DecodeYAML(n *strictyaml.Node) {
	switch k := n.Kind(); {
	case k == strictyaml.String && n.Text() == "off", k == strictyaml.Bool && n.Text() == "false":
		e.off = true
	case k == strictyaml.Map:
		n.Decode(&e.breakerFields)
	default:
		n.Problemf("write off, or {failures: 5, open: 10s, probes: 1}", "expected off or a map, found %q", n.Text())
	}
}

// Shape implements [strictyaml.Shaped].
func (*breakerEntry) Shape() []any { return []any{strictyaml.Word("off"), breakerFields{}} }

type ruleEntry struct {
	Position strictyaml.Position `yaml:",position"`
	// Unique over all rule files; part of the delivery id.
	Name strictyaml.At[string] `yaml:"name,required"`
	// Earlier names of the rule: what is owed under them goes on.
	Was oldNames `yaml:"was"`
	// What it is for.
	Description string `yaml:"description"`
	// Which keys it is about; all patterns bind the same names.
	Keys strictyaml.OneOrList[strictyaml.Text] `yaml:"keys,required" as:"pattern"`
	// The condition.
	When strictyaml.Text `yaml:"when" default:"true"`
	// Named values for `when`, bodies and headers, as `vars.NAME`.
	Vars namedTexts `yaml:"vars"`
	// The condition must have held for so long; a later change of the key for
	// which it is false cancels the delivery.
	For *strictyaml.At[strictyaml.Duration] `yaml:"for"`
	// At most one delivery in that time for each key, or each value of `per`;
	// the latest of the rest goes out at its end.
	Every *strictyaml.At[strictyaml.Duration] `yaml:"every"`
	// What `every` or `group` is about.
	Per strictyaml.Text `yaml:"per" unset:"the key, or the transaction"`
	// `revision`: all changes of the rule's keys in one transaction are one
	// delivery, for each value of `per`; expressions see them as `events`.
	Group *strictyaml.At[string] `yaml:"group" enum:"revision"`
	// Send a `keyhook.gap` CloudEvent where etcd's history had a gap.
	Gaps *strictyaml.At[bool] `yaml:"gaps" default:"false"`
	// What is sent, and where to.
	Send strictyaml.OneOrList[*sendEntry] `yaml:"send,required"`
	// `key`: the changes of a key go out in order; `none`: each by itself.
	Order *strictyaml.At[string] `yaml:"order" default:"key" enum:"key|none"`
	// `block`: later changes of the key wait until one settles; `supersede`:
	// the newest pending one replaces older ones.
	OnFailure *strictyaml.At[string] `yaml:"on_failure" default:"block" enum:"block|supersede"`
}

// oldNames are what a rule or a sink was called before.
type oldNames = strictyaml.OneOrList[strictyaml.At[string]]

type sendEntry struct {
	Position strictyaml.Position `yaml:",position"`
	// The sink's name.
	Sink strictyaml.At[string] `yaml:"sink,required"`
	// Unique within the rule; part of the delivery id.
	Name *strictyaml.At[string] `yaml:"name" unset:"the sink's name"`
	// A string goes out as text, a map or list as JSON.
	Body strictyaml.Text `yaml:"body" unset:"a CloudEvent"`
	// Of this message; strings.
	Headers namedTexts `yaml:"headers"`
	// A string, required for NATS; `nats.token(key)` makes part of a subject
	// of any key. A webhook has none.
	Subject strictyaml.Text `yaml:"subject"`
}

// namedTexts is a map whose order is that of the file.
type namedTexts []namedText

type namedText struct {
	name     string
	position strictyaml.Position // of the name
	text     strictyaml.Text
}

// DecodeYAML implements [strictyaml.Decoder].
func (t *namedTexts) DecodeYAML(n *strictyaml.Node) {
	if !n.Expect(strictyaml.Map) {
		return
	}
	for _, e := range n.Entries() {
		entry := namedText{name: e.Key.Text(), position: e.Key.Position()}
		if e.Value.Decode(&entry.text) {
			*t = append(*t, entry)
		}
	}
}

// Shape implements [strictyaml.Shaped].
func (*namedTexts) Shape() []any { return []any{map[string]strictyaml.Text{}} }

// FileType returns the type that rule files are decoded into, for the reference
// of their fields.
func FileType() reflect.Type { return reflect.TypeFor[ruleFile]() }
