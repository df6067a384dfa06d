package ruletest

import (
	"time"

	"keyhook/internal/strictyaml"
)

// fileSpec is a test file as people write it.
type fileSpec struct {
	Position strictyaml.Position                         `yaml:",position"`
	Rules    strictyaml.OneOrList[strictyaml.At[string]] `yaml:"rules"`
	Config   *strictyaml.At[string]                      `yaml:"config"`
	Source   string                                      `yaml:"source"`
	Only     strictyaml.OneOrList[strictyaml.At[string]] `yaml:"only"`
	Tests    []*testSpec                                 `yaml:"tests,required"`
}

// testSpec is one test. One of a single step may write that step in its place.
type testSpec struct {
	Position    strictyaml.Position                         `yaml:",position"`
	Title       strictyaml.At[string]                       `yaml:"name,required"`
	Description string                                      `yaml:"description"`
	Only        strictyaml.OneOrList[strictyaml.At[string]] `yaml:"only"`
	Revision    *strictyaml.At[int64]                       `yaml:"revision"` // that etcd is at before the first step
	Leases      leases                                      `yaml:"leases"`
	Seed        entries                                     `yaml:"seed"`
	Sinks       scripts                                     `yaml:"sinks"`
	Steps       []*stepSpec                                 `yaml:"steps"`

	actions      `yaml:",inline"`
	expectations `yaml:",inline"`
}

// stepSpec is one transaction, what else happens at its time, and what follows
// from it until the next step.
type stepSpec struct {
	Position strictyaml.Position                 `yaml:",position"`
	At       *strictyaml.At[strictyaml.Duration] `yaml:"at"` // since the beginning of the test
	Revision *strictyaml.At[int64]               `yaml:"revision"`
	Sinks    scripts                             `yaml:"sinks"`

	actions      `yaml:",inline"`
	expectations `yaml:",inline"`
}

// actions are what happens in a step. The writes are one transaction, in the
// order of the file.
type actions struct {
	Put          entries                                     `yaml:"put"`
	Delete       keys                                        `yaml:"delete"`
	DeletePrefix keys                                        `yaml:"delete_prefix"`
	Lease        *strictyaml.At[string]                      `yaml:"lease"`
	Revoke       strictyaml.OneOrList[strictyaml.At[string]] `yaml:"revoke"`
	Abandon      strictyaml.OneOrList[strictyaml.At[string]] `yaml:"stop_keepalive"`
	Wait         *strictyaml.At[strictyaml.Duration]         `yaml:"wait"`
}

// expectations are what must follow from a step, and must not.
type expectations struct {
	Expect       *arrivals                                    `yaml:"expect"`
	ExpectNone   *absences                                    `yaml:"expect_none"`
	ExpectDead   strictyaml.OneOrList[*deathSpec]             `yaml:"expect_dead"`
	ExpectErrors *strictyaml.OneOrList[strictyaml.At[string]] `yaml:"expect_errors"`
	ExpectOwed   map[string]strictyaml.At[int]                `yaml:"expect_owed"`
}

// arrivals is a list of deliveries: one may stand by itself, and the list may be
// empty.
type arrivals struct {
	Position strictyaml.Position
	all      strictyaml.OneOrList[*arrivalSpec]
}

// DecodeYAML implements [strictyaml.Decoder].
func (a *arrivals) DecodeYAML(n *strictyaml.Node) {
	a.Position = n.Position()
	n.Decode(&a.all)
}

// arrivalSpec says what a delivery must look like that a sink has taken. What it
// leaves out is not looked at.
type arrivalSpec struct {
	Position     strictyaml.Position                 `yaml:",position"`
	Rule         *strictyaml.At[string]              `yaml:"rule"`
	Send         *strictyaml.At[string]              `yaml:"send"`
	Sink         *strictyaml.At[string]              `yaml:"sink"`
	Key          *strictyaml.At[string]              `yaml:"key"`
	Type         *strictyaml.At[string]              `yaml:"type"`
	Body         *document                           `yaml:"body"`
	BodyContains *partial                            `yaml:"body_contains"`
	ContentType  *strictyaml.At[string]              `yaml:"content_type"`
	Headers      map[string]strictyaml.At[string]    `yaml:"headers"`
	Subject      *strictyaml.At[string]              `yaml:"subject"`
	Attempts     *strictyaml.At[int]                 `yaml:"attempts"`
	At           *strictyaml.At[strictyaml.Duration] `yaml:"at"` // since the beginning of the test
}

// deathSpec says what a dead letter must look like.
type deathSpec struct {
	Position strictyaml.Position                 `yaml:",position"`
	Rule     *strictyaml.At[string]              `yaml:"rule"`
	Send     *strictyaml.At[string]              `yaml:"send"`
	Sink     *strictyaml.At[string]              `yaml:"sink"`
	Key      *strictyaml.At[string]              `yaml:"key"`
	Reason   *strictyaml.At[string]              `yaml:"reason"`
	Error    *strictyaml.At[string]              `yaml:"error"` // that its error contains
	Attempts *strictyaml.At[int]                 `yaml:"attempts"`
	At       *strictyaml.At[strictyaml.Duration] `yaml:"at"`
}

// absences say what must not arrive: nothing, or nothing of a kind.
type absences struct {
	Position strictyaml.Position
	all      bool
	of       strictyaml.OneOrList[*absenceSpec]
}

// DecodeYAML implements [strictyaml.Decoder].
func (a *absences) DecodeYAML(n *strictyaml.Node) {
	a.Position = n.Position()
	switch n.Kind() {
	case strictyaml.Bool:
		if n.Decode(&a.all) && !a.all {
			n.Problemf("remove the field", "expect_none: false says nothing")
		}
	case strictyaml.Map, strictyaml.List:
		n.Decode(&a.of)
	default:
		n.Problemf("write true, or say what must not arrive, as in {rule: NAME}", "expected true, or what must not arrive")
	}
}

// absenceSpec is a kind of delivery.
type absenceSpec struct {
	Position strictyaml.Position    `yaml:",position"`
	Rule     *strictyaml.At[string] `yaml:"rule"`
	Send     *strictyaml.At[string] `yaml:"send"`
	Sink     *strictyaml.At[string] `yaml:"sink"`
	Key      *strictyaml.At[string] `yaml:"key"`
}

// leases are named, with how long they last once nobody keeps them alive.
type leases []leaseSpec

type leaseSpec struct {
	name string
	at   strictyaml.Position
	ttl  time.Duration
	id   int64 // 0: any
}

// DecodeYAML implements [strictyaml.Decoder].
func (l *leases) DecodeYAML(n *strictyaml.Node) {
	if !n.Expect(strictyaml.Map) {
		return
	}
	for _, e := range n.Entries() {
		spec := leaseSpec{name: e.Key.Text(), at: e.Key.Position()}
		if e.Value.Kind() == strictyaml.Map {
			var long struct {
				TTL strictyaml.Duration `yaml:"ttl,required"`
				ID  string              `yaml:"id"`
			}
			if !e.Value.Decode(&long) {
				continue
			}
			spec.ttl = long.TTL.Std()
			if long.ID != "" {
				id, err := parseLease(long.ID)
				if err != nil {
					e.Value.Problemf("write it as etcdctl does, in hexadecimal digits and quotes", "%q is not the id of a lease", long.ID)
					continue
				}
				spec.id = id
			}
			*l = append(*l, spec)
			continue
		}
		var ttl strictyaml.Duration
		if e.Value.Decode(&ttl) {
			spec.ttl = ttl.Std()
			*l = append(*l, spec)
		}
	}
}
