package rules

import (
	"keyhook/internal/strictyaml"
)

// ruleFile is a file as people write it.
type ruleFile struct {
	Sinks []*sinkEntry `yaml:"sinks"`
	Rules []*ruleEntry `yaml:"rules"`
}

type sinkEntry struct {
	Position    strictyaml.Position   `yaml:",position"`
	Name        strictyaml.At[string] `yaml:"name,required"`
	Was         oldNames              `yaml:"was"`
	Webhook     *webhookEntry         `yaml:"webhook"`
	NATS        *natsEntry            `yaml:"nats"`
	Concurrency *strictyaml.At[int]   `yaml:"concurrency"`
	Rate        *strictyaml.Rate      `yaml:"rate"`
	Retry       *retryEntry           `yaml:"retry"`
	DeadLetter  strictyaml.At[string] `yaml:"dead_letter"`
	Breaker     *breakerEntry         `yaml:"breaker"`
	MaxOwed     *strictyaml.At[int]   `yaml:"max_owed"`
}

type webhookEntry struct {
	Position strictyaml.Position                         `yaml:",position"`
	URL      strictyaml.At[strictyaml.Secret]            `yaml:"url,required"`
	Headers  map[string]strictyaml.At[strictyaml.Secret] `yaml:"headers"`
	Sign     []signEntry                                 `yaml:"sign"`
	Timeout  *strictyaml.At[strictyaml.Duration]         `yaml:"timeout"`
	RetryOn  *strictyaml.At[[]int]                       `yaml:"retry_on"`
	DeadOn   *strictyaml.At[[]int]                       `yaml:"dead_on"`
}

type signEntry struct {
	Secret strictyaml.At[strictyaml.Secret] `yaml:"secret,required"`
}

type natsEntry struct {
	Position    strictyaml.Position                 `yaml:",position"`
	URL         strictyaml.At[strictyaml.Secret]    `yaml:"url,required"`
	JetStream   *strictyaml.At[bool]                `yaml:"jetstream"`
	Stream      *strictyaml.At[string]              `yaml:"stream"`
	Request     *strictyaml.At[bool]                `yaml:"request"`
	CloudEvents *strictyaml.At[string]              `yaml:"cloudevents"`
	User        *strictyaml.At[strictyaml.Secret]   `yaml:"user"`
	Password    *strictyaml.At[strictyaml.Secret]   `yaml:"password"`
	Token       *strictyaml.At[strictyaml.Secret]   `yaml:"token"`
	NKey        *strictyaml.At[strictyaml.Secret]   `yaml:"nkey"`
	CredsFile   *strictyaml.At[string]              `yaml:"creds_file"`
	TLS         *natsTLSEntry                       `yaml:"tls"`
	InboxPrefix *strictyaml.At[string]              `yaml:"inbox_prefix"`
	Timeout     *strictyaml.At[strictyaml.Duration] `yaml:"timeout"`
	MaxPending  *strictyaml.At[int]                 `yaml:"max_pending"`
}

type natsTLSEntry struct {
	CAFile         *strictyaml.At[string] `yaml:"ca_file"`
	CertFile       *strictyaml.At[string] `yaml:"cert_file"`
	KeyFile        *strictyaml.At[string] `yaml:"key_file"`
	HandshakeFirst bool                   `yaml:"handshake_first"`
}

type retryEntry struct {
	Initial     *strictyaml.At[strictyaml.Duration] `yaml:"initial"`
	Multiplier  *strictyaml.At[float64]             `yaml:"multiplier"`
	Max         *strictyaml.At[strictyaml.Duration] `yaml:"max"`
	Jitter      *strictyaml.At[float64]             `yaml:"jitter"`
	MaxAttempts *strictyaml.At[int]                 `yaml:"max_attempts"`
	MaxAge      *strictyaml.Duration                `yaml:"max_age"`
}

// breakerEntry is a map, or "off".
type breakerEntry struct {
	off bool
	breakerFields
}

type breakerFields struct {
	Failures *strictyaml.At[int]                 `yaml:"failures"`
	Open     *strictyaml.At[strictyaml.Duration] `yaml:"open"`
	Probes   *strictyaml.At[int]                 `yaml:"probes"`
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

type ruleEntry struct {
	Position    strictyaml.Position                   `yaml:",position"`
	Name        strictyaml.At[string]                 `yaml:"name,required"`
	Was         oldNames                              `yaml:"was"`
	Description string                                `yaml:"description"`
	Keys        strictyaml.OneOrList[strictyaml.Text] `yaml:"keys,required"`
	When        strictyaml.Text                       `yaml:"when"`
	Vars        namedTexts                            `yaml:"vars"`
	For         *strictyaml.At[strictyaml.Duration]   `yaml:"for"`
	Every       *strictyaml.At[strictyaml.Duration]   `yaml:"every"`
	Per         strictyaml.Text                       `yaml:"per"`
	Group       *strictyaml.At[string]                `yaml:"group"`
	Gaps        *strictyaml.At[bool]                  `yaml:"gaps"`
	Send        strictyaml.OneOrList[*sendEntry]      `yaml:"send,required"`
	Order       *strictyaml.At[string]                `yaml:"order"`
	OnFailure   *strictyaml.At[string]                `yaml:"on_failure"`
}

// oldNames are what a rule or a sink was called before.
type oldNames = strictyaml.OneOrList[strictyaml.At[string]]

type sendEntry struct {
	Position strictyaml.Position    `yaml:",position"`
	Sink     strictyaml.At[string]  `yaml:"sink,required"`
	Name     *strictyaml.At[string] `yaml:"name"`
	Body     strictyaml.Text        `yaml:"body"`
	Headers  namedTexts             `yaml:"headers"`
	Subject  strictyaml.Text        `yaml:"subject"`
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
