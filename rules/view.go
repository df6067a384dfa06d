package rules

import (
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"keyhook"
)

// eventVal is the event as expressions see it. There are two of each event: only
// the one for bodies and headers has its time.
type eventVal struct {
	st    *state
	timed bool
}

// content is what a key holds, now or before: the part that the event, its prev
// and its last have in common. What is read once is kept, so that all rules
// share it.
type content struct {
	raw            []byte
	value, bytes   ref.Val
	valueErr       error
	json           ref.Val
	jsonErr        error
	parsed, absent bool
}

func (c *content) reset(raw []byte, absent bool) {
	*c = content{raw: raw, absent: absent}
}

var errNotUTF8 = errors.New("is not UTF-8")

func (c *content) text(of string) (ref.Val, error) {
	if c.value == nil && c.valueErr == nil {
		c.value, c.valueErr = textOf(c.raw, of)
	}
	return c.value, c.valueErr
}

func textOf(raw []byte, of string) (ref.Val, error) {
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("%s %w", of, errNotUTF8)
	}
	return types.String(raw), nil
}

func (c *content) binary() ref.Val {
	if c.bytes == nil {
		c.bytes = types.Bytes(c.raw)
	}
	return c.bytes
}

// document reads the value as JSON, once.
func (c *content) document(of string) (ref.Val, error) {
	if c.absent {
		return nil, fmt.Errorf("%s is absent: the key was deleted", of)
	}
	if !c.parsed {
		c.parsed = true
		c.json, c.jsonErr = parseJSON(c.raw)
	}
	return c.json, c.jsonErr
}

func (c *content) hasDocument() bool {
	if c.absent {
		return false
	}
	_, err := c.document("")
	return err == nil
}

// valueVal is event.prev or event.last.
type valueVal struct {
	kv *keyhook.KeyValue
	content
}

func always(any) bool { return true }

// get makes a getter out of a function of the event.
func get(f func(e *eventVal) (ref.Val, error)) func(any) (ref.Val, error) {
	return func(obj any) (ref.Val, error) {
		e, ok := obj.(*eventVal)
		if !ok {
			return nil, fmt.Errorf("%T is not an event", obj)
		}
		return f(e)
	}
}

func number(f func(e *keyhook.Event) int64) func(any) (ref.Val, error) {
	return get(func(e *eventVal) (ref.Val, error) { return types.Int(f(e.st.event)), nil })
}

// eventFields are the fields of an event.
var eventFields = []field{
	{"type", types.StringType, always, get(func(e *eventVal) (ref.Val, error) { return typeNames[e.st.event.Type], nil })},
	{"key", types.StringType, always, get(func(e *eventVal) (ref.Val, error) { return e.st.key.text("event.key") })},
	{"key_bytes", types.BytesType, always, get(func(e *eventVal) (ref.Val, error) { return e.st.key.binary(), nil })},
	{"value", types.StringType, always, get(func(e *eventVal) (ref.Val, error) { return e.st.now.text("event.value") })},
	{"bytes", types.BytesType, always, get(func(e *eventVal) (ref.Val, error) { return e.st.now.binary(), nil })},
	{
		"json", types.DynType,
		func(obj any) bool { e, ok := obj.(*eventVal); return ok && e.st.now.hasDocument() },
		get(func(e *eventVal) (ref.Val, error) { return e.st.now.document("event.json") }),
	},
	{"revision", types.IntType, always, number(func(e *keyhook.Event) int64 { return e.Revision })},
	{"create_revision", types.IntType, always, number(func(e *keyhook.Event) int64 { return e.CreateRevision })},
	{"version", types.IntType, always, number(func(e *keyhook.Event) int64 { return e.Version })},
	{"lease", types.IntType, always, number(func(e *keyhook.Event) int64 { return e.Lease })},
	{"created", types.BoolType, always, get(func(e *eventVal) (ref.Val, error) { return types.Bool(e.st.event.Created()), nil })},
	{"synthetic", types.BoolType, always, get(func(e *eventVal) (ref.Val, error) { return types.Bool(e.st.event.Synthetic), nil })},
	{
		nameTime, types.TimestampType,
		func(obj any) bool { e, ok := obj.(*eventVal); return ok && e.timed },
		get(func(e *eventVal) (ref.Val, error) {
			if !e.timed {
				return nil, errors.New("event.time can be used in bodies and headers only")
			}
			return types.Timestamp{Time: e.st.event.Time.UTC()}, nil
		}),
	},
	{nameParams, paramsType, always, get(func(e *eventVal) (ref.Val, error) { return &e.st.paramsVal, nil })},
	{
		"prev", valueType,
		func(obj any) bool { e, ok := obj.(*eventVal); return ok && e.st.event.Prev != nil },
		get(func(e *eventVal) (ref.Val, error) {
			if e.st.event.Prev == nil {
				return nil, errors.New("event.prev is absent: the key was created")
			}
			return e.st.prev, nil
		}),
	},
	{
		"last", valueType,
		func(obj any) bool { e, ok := obj.(*eventVal); return ok && e.st.event.Last != nil },
		get(func(e *eventVal) (ref.Val, error) {
			if e.st.event.Last == nil {
				return nil, errors.New("event.last is absent: the key was never seen before")
			}
			return e.st.last, nil
		}),
	},
}

// nameTime is the field that decisions may not depend on.
const nameTime = "time"

var typeNames = [...]ref.Val{
	0:              types.String(typeGap),
	keyhook.Put:    types.String(keyhook.Put.String()),
	keyhook.Delete: types.String(keyhook.Delete.String()),
}

func getOld(f func(v *valueVal) (ref.Val, error)) func(any) (ref.Val, error) {
	return func(obj any) (ref.Val, error) {
		v, ok := obj.(*valueVal)
		if !ok {
			return nil, fmt.Errorf("%T is not a value", obj)
		}
		return f(v)
	}
}

func oldNumber(f func(kv *keyhook.KeyValue) int64) func(any) (ref.Val, error) {
	return getOld(func(v *valueVal) (ref.Val, error) { return types.Int(f(v.kv)), nil })
}

// valueFields are the fields of event.prev and event.last.
var valueFields = []field{
	{"value", types.StringType, always, getOld(func(v *valueVal) (ref.Val, error) { return v.text("the previous value") })},
	{"bytes", types.BytesType, always, getOld(func(v *valueVal) (ref.Val, error) { return v.binary(), nil })},
	{
		"json", types.DynType,
		func(obj any) bool { v, ok := obj.(*valueVal); return ok && v.hasDocument() },
		getOld(func(v *valueVal) (ref.Val, error) { return v.document("the previous json") }),
	},
	{"revision", types.IntType, always, oldNumber(func(kv *keyhook.KeyValue) int64 { return kv.Revision })},
	{"create_revision", types.IntType, always, oldNumber(func(kv *keyhook.KeyValue) int64 { return kv.CreateRevision })},
	{"version", types.IntType, always, oldNumber(func(kv *keyhook.KeyValue) int64 { return kv.Version })},
	{"lease", types.IntType, always, oldNumber(func(kv *keyhook.KeyValue) int64 { return kv.Lease })},
}

// paramsVal is what the pattern of the rule captured.
type paramsVal struct{ st *state }

// varsVal are the variables of the rule.
type varsVal struct{ st *state }

func (e *environment) paramFields() []field {
	fields := make([]field, len(e.scope.captures))
	for i, name := range e.scope.captures {
		fields[i] = field{name, types.StringType, always, func(obj any) (ref.Val, error) {
			p, ok := obj.(*paramsVal)
			if !ok {
				return nil, fmt.Errorf("%T are not the captures", obj)
			}
			return p.st.param(i)
		}}
	}
	return fields
}

func (e *environment) varFields() []field {
	fields := make([]field, 0, len(e.scope.vars))
	for i, v := range e.scope.vars {
		typ := types.ErrorType // it has a mistake, which is enough of a report
		if v.expr != nil {
			typ = v.expr.typ
		}
		fields = append(fields, field{v.name, typ, always, func(obj any) (ref.Val, error) {
			vars, ok := obj.(*varsVal)
			if !ok {
				return nil, fmt.Errorf("%T are not the variables", obj)
			}
			return vars.st.variable(i)
		}})
	}
	return fields
}

// What follows makes the four types values of CEL.

func getField(fields []field, obj any, index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	for i := range fields {
		if fields[i].name == string(name) {
			v, err := fields[i].get(obj)
			if err != nil {
				return types.WrapErr(err)
			}
			return v
		}
	}
	return types.NewErr("no such field: %s", string(name))
}

func hasField(fields []field, obj any, index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	for i := range fields {
		if fields[i].name == string(name) {
			return types.Bool(fields[i].has(obj))
		}
	}
	return types.NewErr("no such field: %s", string(name))
}

func toNative(t *types.Type, desc reflect.Type) (any, error) {
	return nil, fmt.Errorf("a %s cannot become a %s", t.TypeName(), desc)
}

func toType(t *types.Type, target ref.Type) ref.Val {
	if target.TypeName() == types.TypeType.TypeName() {
		return t
	}
	return types.NewErr("a %s cannot become a %s", t.TypeName(), target.TypeName())
}

// ConvertToNative implements [ref.Val], as do the methods below.
func (e *eventVal) ConvertToNative(desc reflect.Type) (any, error) { return toNative(eventType, desc) }
func (e *eventVal) ConvertToType(t ref.Type) ref.Val               { return toType(eventType, t) }
func (e *eventVal) Equal(other ref.Val) ref.Val                    { return types.Bool(other == ref.Val(e)) }
func (e *eventVal) Type() ref.Type                                 { return eventType }
func (e *eventVal) Value() any                                     { return e }
func (e *eventVal) Get(index ref.Val) ref.Val                      { return getField(eventFields, e, index) }
func (e *eventVal) IsSet(index ref.Val) ref.Val                    { return hasField(eventFields, e, index) }
func (e *eventVal) AggregateSize(types.AggregateSizer) uint32      { return 1 }

// ConvertToNative implements [ref.Val], as do the methods below.
func (v *valueVal) ConvertToNative(desc reflect.Type) (any, error) { return toNative(valueType, desc) }
func (v *valueVal) ConvertToType(t ref.Type) ref.Val               { return toType(valueType, t) }
func (v *valueVal) Type() ref.Type                                 { return valueType }
func (v *valueVal) Value() any                                     { return v }
func (v *valueVal) Get(index ref.Val) ref.Val                      { return getField(valueFields, v, index) }
func (v *valueVal) IsSet(index ref.Val) ref.Val                    { return hasField(valueFields, v, index) }
func (v *valueVal) AggregateSize(types.AggregateSizer) uint32      { return 1 }

// Equal reports whether two earlier states of the key are the same one.
func (v *valueVal) Equal(other ref.Val) ref.Val {
	o, ok := other.(*valueVal)
	return types.Bool(ok && v.kv.Revision == o.kv.Revision)
}

// ConvertToNative implements [ref.Val], as do the methods below.
func (p *paramsVal) ConvertToNative(desc reflect.Type) (any, error) {
	return toNative(paramsType, desc)
}
func (p *paramsVal) ConvertToType(t ref.Type) ref.Val          { return toType(paramsType, t) }
func (p *paramsVal) Equal(other ref.Val) ref.Val               { return types.Bool(other == ref.Val(p)) }
func (p *paramsVal) Type() ref.Type                            { return paramsType }
func (p *paramsVal) Value() any                                { return p }
func (p *paramsVal) Get(index ref.Val) ref.Val                 { return p.st.paramNamed(index) }
func (p *paramsVal) AggregateSize(types.AggregateSizer) uint32 { return 1 }

// ConvertToNative implements [ref.Val], as do the methods below.
func (v *varsVal) ConvertToNative(desc reflect.Type) (any, error) { return toNative(varsType, desc) }
func (v *varsVal) ConvertToType(t ref.Type) ref.Val               { return toType(varsType, t) }
func (v *varsVal) Equal(other ref.Val) ref.Val                    { return types.Bool(other == ref.Val(v)) }
func (v *varsVal) Type() ref.Type                                 { return varsType }
func (v *varsVal) Value() any                                     { return v }
func (v *varsVal) Get(index ref.Val) ref.Val                      { return v.st.varNamed(index) }
func (v *varsVal) AggregateSize(types.AggregateSizer) uint32      { return 1 }
