package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/ext"
)

// The names that expressions see.
const (
	nameEvent  = "event"
	nameParams = "params"
	nameVars   = "vars"
	nameEvents = "events" // in place of event and params, where a rule takes several changes together
	namePer    = "per"    // there, what they have in common
)

// The types behind them. They cannot be made in an expression.
var (
	eventType  = types.NewObjectType("keyhook.Event", traits.IndexerType|traits.FieldTesterType)
	valueType  = types.NewObjectType("keyhook.Value", traits.IndexerType|traits.FieldTesterType)
	paramsType = types.NewObjectType("keyhook.Params", traits.IndexerType|traits.FieldTesterType)
	varsType   = types.NewObjectType("keyhook.Vars", traits.IndexerType|traits.FieldTesterType)
)

// scope is what "params" and "vars" hold in the rule that is being compiled, and
// which of the other names it has.
type scope struct {
	captures []string
	vars     []*variable
	grouped  bool // events in place of event
	per      bool
}

// has reports whether expressions of the scope may use a name, and what to use in
// its place if they may not.
func (s *scope) has(name string) (hint string, ok bool) {
	switch name {
	case nameEvent:
		return "the rule takes the changes of a revision together: events[0], or events.exists(e, ...)", !s.grouped
	case nameParams:
		return "each of the changes has its own: events[0].params", !s.grouped
	case nameEvents:
		return "group: revision makes one event of the changes of a revision", s.grouped
	case namePer:
		return "per: params.name, in the rule, says what the changes of a group have in common", s.per
	default:
		return "", true
	}
}

// environment compiles expressions. It has the scope of one rule at a time, so
// that an unknown capture is an error of the type checker, with its place; it
// must not be used by two goroutines at once. Compiled programs may.
type environment struct {
	*cel.Env
	scope *scope
}

func newEnvironment(extra ...cel.EnvOption) (*environment, error) {
	e := &environment{scope: &scope{}}
	opts := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.OptionalTypes(cel.OptionalTypesVersion(2)),
		cel.EnableErrorOnBadPresenceTest(false),

		// Pinned, so that an upgrade of the library does not change the language.
		ext.Strings(ext.StringsVersion(5)),
		ext.Lists(ext.ListsVersion(5)),
		ext.Math(ext.MathVersion(3)),
		ext.Encoders(ext.EncodersVersion(0)),
		ext.Regex(ext.RegexVersion(0)),
		ext.Bindings(ext.BindingsVersion(1)),
		ext.Sets(ext.SetsVersion(0)),
		ext.TwoVarComprehensions(ext.TwoVarComprehensionsVersion(0)),

		cel.Types(
			&structType{Type: eventType, fields: func() []field { return eventFields }},
			&structType{Type: valueType, fields: func() []field { return valueFields }},
			&structType{Type: paramsType, fields: e.paramFields},
			&structType{Type: varsType, fields: e.varFields},
		),
		cel.Variable(nameEvent, eventType),
		cel.Variable(nameParams, paramsType),
		cel.Variable(nameVars, varsType),
		cel.Variable(nameEvents, cel.ListType(eventType)),
		cel.Variable(namePer, cel.StringType),

		cel.ParserExpressionSizeLimit(maxExpressionSize),
		cel.ExpressionNodeLimit(maxExpressionNodes),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.RegexProgramSizeLimit(maxRegexProgram),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateRegexProgramSizeLimit(maxRegexProgram),
			cel.ValidateComprehensionNestingLimit(maxComprehensions),
		),
		cel.CostSizingStrategy(sizing),
	}
	env, err := cel.NewEnv(slices.Concat(opts, functions(), changedFunctions(), costModels(), extra)...)
	if err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	if e.Env, err = guarded(env); err != nil {
		return nil, fmt.Errorf("building the CEL environment: %w", err)
	}
	return e, nil
}

// functions are those that keyhook adds to the language.
func functions() []cel.EnvOption {
	scan := cost.Sum(cost.Const(cost.CallCost), cost.StringScan(cost.Length(cost.Arg(0))))
	return []cel.EnvOption{
		cel.Function("nats.token",
			cel.Overload("nats_token_string", []*cel.Type{cel.StringType}, cel.StringType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				s, ok := v.(types.String)
				if !ok {
					return types.MaybeNoSuchOverloadErr(v)
				}
				return types.String(natsToken(string(s)))
			})),
			cel.Overload("nats_token_bytes", []*cel.Type{cel.BytesType}, cel.StringType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				b, ok := v.(types.Bytes)
				if !ok {
					return types.MaybeNoSuchOverloadErr(v)
				}
				return types.String(natsToken(string(b)))
			})),
		),
		cel.Function("json.encode",
			cel.Overload("json_encode_dyn", []*cel.Type{cel.DynType}, cel.StringType, cel.UnaryBinding(func(v ref.Val) ref.Val {
				b, err := appendJSON(nil, v)
				if err != nil {
					return types.WrapErr(err)
				}
				return types.String(b)
			})),
		),
		cel.CostModel(
			cost.Overload("nats_token_string", cost.EvalCost(scan), cost.ResultSize(cost.AtMost(cost.Scale(cost.Arg(0), 3)))),
			cost.Overload("nats_token_bytes", cost.EvalCost(scan), cost.ResultSize(cost.AtMost(cost.Scale(cost.Arg(0), 3)))),
			cost.Overload("json_encode_dyn", cost.EvalCost(cost.Sum(cost.Const(cost.CallCost), cost.StringScan(cost.Arg(0)))),
				cost.ResultSize(cost.AtMost(cost.Const(maxPayload)))),
			cost.Overload("base64_encode_bytes", cost.EvalCost(scan), cost.ResultSize(cost.AtMost(cost.Scale(cost.Arg(0), 2)))),
			cost.Overload("base64_decode_string", cost.EvalCost(scan), cost.ResultSize(cost.AtMost(cost.Arg(0)))),
		),
	}
}

// names returns everything that an expression can begin with: for hints.
func (e *environment) names() []string {
	names := []string{nameEvent, nameParams, nameVars, nameEvents, namePer}
	for f := range e.Functions() {
		if !strings.ContainsAny(f, "@_!-") {
			names = append(names, f)
		}
	}
	slices.Sort(names)
	return names
}

// field is a field of one of the types.
type field struct {
	name string
	typ  *types.Type
	has  func(obj any) bool
	get  func(obj any) (ref.Val, error)
}

// structType tells CEL the fields of a type.
type structType struct {
	*types.Type
	fields func() []field
}

// ReflectType implements [types.StructTypeDescriptor]; no Go type stands behind
// the name.
func (*structType) ReflectType() reflect.Type { return nil }

// FieldNames implements [types.StructTypeDescriptor].
func (t *structType) FieldNames() []string {
	fields := t.fields()
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// FindFieldType implements [types.StructTypeDescriptor].
func (t *structType) FindFieldType(name string) (*types.FieldType, bool) {
	for _, f := range t.fields() {
		if f.name == name {
			return &types.FieldType{
				Type:    f.typ,
				IsSet:   f.has,
				GetFrom: func(obj any) (any, error) { return f.get(obj) },
			}, true
		}
	}
	return nil, false
}

// NewValue implements [types.StructTypeDescriptor].
func (t *structType) NewValue(types.Adapter, map[string]ref.Val) ref.Val {
	return types.NewErr("a %s cannot be made", t.TypeName())
}

// Adapt implements [types.StructTypeDescriptor].
func (t *structType) Adapt(_ types.Adapter, v any) ref.Val {
	return types.NewErr("%T is not a %s", v, t.TypeName())
}
