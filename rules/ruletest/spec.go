package ruletest

import (
	"reflect"
	"time"

	"keyhook/internal/strictyaml"
)

// fileSpec is a test file as people write it.
type fileSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// The rule files that are tested, or globs of them.
	Rules strictyaml.OneOrList[strictyaml.At[string]] `yaml:"rules" unset:"the file of this name without _test"`
	// A keyhook.yaml whose rules are tested, with its `etcd.watch` and `source`.
	Config *strictyaml.At[string] `yaml:"config"`
	// Names the history, as in delivery ids and CloudEvents.
	Source string `yaml:"source" unset:"/etcd/test"`
	// The rules that count: what others send is not looked at.
	Only strictyaml.OneOrList[strictyaml.At[string]] `yaml:"only"`
	// The tests.
	Tests []*testSpec `yaml:"tests,required"`
}

// FileType returns the type that test files are decoded into, for the schema of
// their fields.
func FileType() reflect.Type { return reflect.TypeFor[fileSpec]() }

// testSpec is one test. One of a single step may write that step in its place.
type testSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// What it shows.
	Title strictyaml.At[string] `yaml:"name,required"`
	// More of it.
	Description string `yaml:"description"`
	// The rules that count: what others send is not looked at.
	Only strictyaml.OneOrList[strictyaml.At[string]] `yaml:"only"`
	// The revision that etcd is at before the first step.
	Revision *strictyaml.At[int64] `yaml:"revision"`
	// Names of leases, with how long they last once nobody keeps them alive.
	Leases leases `yaml:"leases"`
	// What etcd holds before keyhook looks.
	Seed entries `yaml:"seed"`
	// How sinks answer; what is not said is ok.
	Sinks scripts `yaml:"sinks"`
	// What happens, one after the other.
	Steps []*stepSpec `yaml:"steps"`

	actions      `yaml:",inline"`
	expectations `yaml:",inline"`
}

// stepSpec is one transaction, what else happens at its time, and what follows
// from it until the next step.
type stepSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// When it begins, since the beginning of the test.
	At *strictyaml.At[strictyaml.Duration] `yaml:"at"`
	// The revision of its transaction, where others have written meanwhile.
	Revision *strictyaml.At[int64] `yaml:"revision"`
	// How sinks answer from here on.
	Sinks scripts `yaml:"sinks"`

	actions      `yaml:",inline"`
	expectations `yaml:",inline"`
}

// actions are what happens in a step. The writes are one transaction, in the
// order of the file.
type actions struct {
	// Keys that are put, with their values: text, or a document.
	Put entries `yaml:"put"`
	// Keys that are deleted.
	Delete keys `yaml:"delete"`
	// All keys that begin so are deleted.
	DeletePrefix keys `yaml:"delete_prefix"`
	// The lease of what is put.
	Lease *strictyaml.At[string] `yaml:"lease"`
	// Leases that end now.
	Revoke strictyaml.OneOrList[strictyaml.At[string]] `yaml:"revoke"`
	// Leases that end when their time is over.
	Abandon strictyaml.OneOrList[strictyaml.At[string]] `yaml:"stop_keepalive"`
	// How long the step lasts.
	Wait *strictyaml.At[strictyaml.Duration] `yaml:"wait" unset:"until nothing is left to come of it"`
}

// expectations are what must follow from a step, and must not.
type expectations struct {
	// The deliveries that sinks take, all of them; `[]` is none.
	Expect *arrivals `yaml:"expect"`
	// True, or what must not arrive.
	ExpectNone *absences `yaml:"expect_none"`
	// Dead letters.
	ExpectDead strictyaml.OneOrList[*deathSpec] `yaml:"expect_dead"`
	// The rules whose condition fails, all of them; `[]` is none.
	ExpectErrors *strictyaml.OneOrList[strictyaml.At[string]] `yaml:"expect_errors"`
	// What sinks are still owed at the end.
	ExpectOwed map[string]strictyaml.At[int] `yaml:"expect_owed"`
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

// Shape implements [strictyaml.Shaped].
func (*arrivals) Shape() []any { return []any{strictyaml.OneOrList[*arrivalSpec]{}} }

// arrivalSpec says what a delivery must look like that a sink has taken. What it
// leaves out is not looked at.
type arrivalSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// The rule's name.
	Rule *strictyaml.At[string] `yaml:"rule"`
	// The name of the send.
	Send *strictyaml.At[string] `yaml:"send"`
	// The sink's name.
	Sink *strictyaml.At[string] `yaml:"sink"`
	// The key of the change.
	Key *strictyaml.At[string] `yaml:"key"`
	// Of the change.
	Type *strictyaml.At[string] `yaml:"type" enum:"PUT|DELETE"`
	// The whole: text, or a document that must be the same JSON.
	Body *document `yaml:"body"`
	// A part of it: texts, or members that must be there.
	BodyContains *partial `yaml:"body_contains"`
	// As the rule renders it.
	ContentType *strictyaml.At[string] `yaml:"content_type"`
	// As the rule renders them, by name.
	Headers map[string]strictyaml.At[string] `yaml:"headers"`
	// As the rule renders it.
	Subject *strictyaml.At[string] `yaml:"subject"`
	// How often it was tried.
	Attempts *strictyaml.At[int] `yaml:"attempts"`
	// When that was, since the beginning of the test.
	At *strictyaml.At[strictyaml.Duration] `yaml:"at"`
}

// deathSpec says what a dead letter must look like.
type deathSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// The rule's name.
	Rule *strictyaml.At[string] `yaml:"rule"`
	// The name of the send.
	Send *strictyaml.At[string] `yaml:"send"`
	// The sink's name.
	Sink *strictyaml.At[string] `yaml:"sink"`
	// The key of the change.
	Key *strictyaml.At[string] `yaml:"key"`
	// Why it was given up.
	Reason *strictyaml.At[string] `yaml:"reason"`
	// A part of its error.
	Error *strictyaml.At[string] `yaml:"error"`
	// How often it was tried.
	Attempts *strictyaml.At[int] `yaml:"attempts"`
	// When that was, since the beginning of the test.
	At *strictyaml.At[strictyaml.Duration] `yaml:"at"`
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

// Shape implements [strictyaml.Shaped].
func (*absences) Shape() []any { return []any{true, strictyaml.OneOrList[*absenceSpec]{}} }

// absenceSpec is a kind of delivery.
type absenceSpec struct {
	Position strictyaml.Position `yaml:",position"`
	// The rule's name.
	Rule *strictyaml.At[string] `yaml:"rule"`
	// The name of the send.
	Send *strictyaml.At[string] `yaml:"send"`
	// The sink's name.
	Sink *strictyaml.At[string] `yaml:"sink"`
	// The key of the change.
	Key *strictyaml.At[string] `yaml:"key"`
}

// leases are named, with how long they last once nobody keeps them alive.
type leases []leaseSpec

type leaseSpec struct {
	name string
	at   strictyaml.Position
	ttl  time.Duration
	id   int64 // 0: any
}

// leaseForm is a lease as it is written: how long it lasts, or that and its id.
type leaseForm struct{}

// Shape implements [strictyaml.Shaped].
func (*leaseForm) Shape() []any { return []any{strictyaml.Duration(0), leaseFields{}} }

type leaseFields struct {
	// How long it lasts once nobody keeps it alive.
	TTL strictyaml.Duration `yaml:"ttl,required"`
	// Its id, in hexadecimal digits as etcdctl writes it.
	ID string `yaml:"id"`
}

// Shape implements [strictyaml.Shaped].
func (*leases) Shape() []any { return []any{map[string]leaseForm{}} }

// DecodeYAML implements [strictyaml.Decoder].
func (l *leases) DecodeYAML(n *strictyaml.Node) {
	if !n.Expect(strictyaml.Map) {
		return
	}
	for _, e := range n.Entries() {
		spec := leaseSpec{name: e.Key.Text(), at: e.Key.Position()}
		if e.Value.Kind() == strictyaml.Map {
			var long leaseFields
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
