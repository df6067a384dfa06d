package ruletest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

// scripts say how sinks answer.
type scripts []script

// script is how one sink answers: one attempt after the other, and after the
// last reply of a list as if nothing were said. A reply that is no list is given
// to every attempt.
type script struct {
	sink    strictyaml.At[string]
	replies []reply
	always  bool
}

// reply is how a sink answers an attempt.
type reply struct {
	at         strictyaml.Position
	status     int // of HTTP; 0: word
	word       string
	retryAfter time.Duration
	took       time.Duration
	times      int
}

// Words for what is no status.
const (
	replyOK       = "ok"
	replyTimeout  = "timeout"  // no answer in time
	replyRefused  = "refused"  // nobody listens
	replyRejected = "rejected" // of NATS: never to be taken
)

var replyWords = []string{replyOK, replyTimeout, replyRefused, replyRejected}

// DecodeYAML implements [strictyaml.Decoder].
func (s *scripts) DecodeYAML(n *strictyaml.Node) {
	if !n.Expect(strictyaml.Map) {
		return
	}
	for _, e := range n.Entries() {
		one := script{sink: strictyaml.At[string]{Value: e.Key.Text(), Position: e.Key.Position()}}
		one.always = e.Value.Kind() != strictyaml.List
		var replies strictyaml.OneOrList[reply]
		if e.Value.Decode(&replies) {
			one.replies = replies
			*s = append(*s, one)
		}
	}
}

// DecodeYAML implements [strictyaml.Decoder].
func (r *reply) DecodeYAML(n *strictyaml.Node) {
	const hint = "write a status such as 503, one of ok, timeout, refused and rejected, or {status: 429, retry_after: 30s}"
	r.at, r.times = n.Position(), 1
	switch n.Kind() {
	case strictyaml.Number:
		if n.Decode(&r.status) && (r.status < 200 || r.status > 599) {
			n.Problemf(hint, "%d is not a status that answers a request", r.status)
		}
	case strictyaml.String:
		for _, w := range replyWords {
			if n.Text() == w {
				r.word = w
			}
		}
		if r.word == "" {
			n.Problemf(hint, "%q is not a reply", n.Text())
		}
	case strictyaml.Map:
		r.decodeLong(n, hint)
	default:
		n.Problemf(hint, "expected a reply, found %s", n.Kind())
	}
}

func (r *reply) decodeLong(n *strictyaml.Node, hint string) {
	var long replyFields
	if !n.Decode(&long) {
		return
	}
	r.status, r.word = long.Status.status, long.Status.word
	r.retryAfter, r.took = long.RetryAfter.Std(), long.Took.Std()
	if long.Times != nil {
		r.times = *long.Times
	}
	switch {
	case r.times < 1:
		n.Problemf("", "times must be above 0")
	case r.retryAfter%time.Second != 0:
		n.Problemf(hint, "retry_after is in whole seconds")
	case r.retryAfter > 0 && r.status == 0:
		n.Problemf(hint, "only an answer with a status of HTTP can ask for a time")
	}
}

// replyFields are a reply with its circumstances.
type replyFields struct {
	// A status of HTTP, or ok, timeout, refused or rejected.
	Status *replyStatus `yaml:"status,required"`
	// When the sink asks to be tried again, in whole seconds.
	RetryAfter strictyaml.Duration `yaml:"retry_after"`
	// How long the answer takes.
	Took strictyaml.Duration `yaml:"took"`
	// How many attempts get this reply.
	Times *int `yaml:"times" default:"1" min:"1"`
}

// Shape implements [strictyaml.Shaped].
func (*scripts) Shape() []any { return []any{map[string]strictyaml.OneOrList[reply]{}} }

// Shape implements [strictyaml.Shaped].
func (*reply) Shape() []any { return append((*replyStatus)(nil).Shape(), replyFields{}) }

// Shape implements [strictyaml.Shaped].
func (*replyStatus) Shape() []any {
	shapes := []any{0}
	for _, w := range replyWords {
		shapes = append(shapes, strictyaml.Word(w))
	}
	return shapes
}

// replyStatus is a status or a word within a longer reply.
type replyStatus reply

// DecodeYAML implements [strictyaml.Decoder].
func (s *replyStatus) DecodeYAML(n *strictyaml.Node) {
	if n.Kind() == strictyaml.Map {
		n.Problemf("", "expected a status or a word")
		return
	}
	(*reply)(s).DecodeYAML(n)
}

// receiver is a sink of a test.
type receiver struct {
	spec    rules.SinkSpec
	webhook *webhook.Sink // nil: NATS
	replies []reply
	always  bool
}

// newReceiver returns a receiver that takes everything. It judges answers as
// the sink does.
func newReceiver(spec rules.SinkSpec) (*receiver, error) {
	r := &receiver{spec: spec}
	if spec.Webhook == nil {
		return r, nil
	}
	// Where it goes, and with which secrets, is none of a test's business.
	sink, err := webhook.New(webhook.Config{
		URL: "http://127.0.0.1/", Timeout: spec.Webhook.Timeout, RetryOn: spec.Webhook.RetryOn, DeadOn: spec.Webhook.DeadOn,
	})
	if err != nil {
		return nil, fmt.Errorf("sink %q: %w", spec.Name, err)
	}
	r.webhook = sink
	return r, nil
}

// follow makes r answer as s says from now on.
func (r *receiver) follow(s script) {
	r.replies, r.always = append([]reply(nil), s.replies...), s.always
}

// answer answers one attempt.
func (r *receiver) answer() (took time.Duration, err error) {
	if len(r.replies) == 0 {
		return 0, nil
	}
	now := r.replies[0]
	if !r.always {
		if r.replies[0].times--; r.replies[0].times == 0 {
			r.replies = r.replies[1:]
		}
	}
	return r.judge(now)
}

func (r *receiver) judge(now reply) (took time.Duration, err error) {
	if now.word == replyTimeout && now.took == 0 {
		now.took = r.timeout()
	}
	if r.webhook == nil {
		return now.took, judgeNATS(now)
	}
	switch now.word {
	case replyOK:
		return now.took, nil
	case replyTimeout:
		return now.took, r.webhook.Unanswered()
	case replyRefused:
		return now.took, r.webhook.Unreachable()
	}
	h := http.Header{}
	if now.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(now.retryAfter/time.Second)))
	}
	return now.took, r.webhook.Judge(now.status, h)
}

func (r *receiver) timeout() time.Duration {
	if r.spec.Webhook != nil {
		return r.spec.Webhook.Timeout
	}
	return r.spec.NATS.Timeout
}

func judgeNATS(now reply) error {
	switch now.word {
	case replyTimeout:
		return &sinks.Error{Err: errors.New("no acknowledgement in time")}
	case replyRefused:
		return &sinks.Error{Err: errors.New("there is no connection")}
	case replyRejected:
		return &sinks.Error{Kind: sinks.Rejected, Err: errors.New("the server refuses the message")}
	}
	return nil
}

// check reports replies that the sink cannot give.
func (s *script) check(spec rules.SinkSpec) strictyaml.Problems {
	var ps strictyaml.Problems
	for _, r := range s.replies {
		switch {
		case spec.NATS != nil && r.status != 0:
			ps.Add(r.at, "write ok, timeout, refused or rejected", "%q is a NATS sink, which answers with no status", spec.Name)
		case spec.Webhook != nil && r.word == replyRejected:
			ps.Add(r.at, "write one such as 400", "a webhook rejects with a status")
		}
	}
	return ps
}

func (r *receiver) close() error {
	if r.webhook == nil {
		return nil
	}
	return r.webhook.Close()
}
