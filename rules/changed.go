package rules

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"keyhook"
)

// event.changed() is whether the key holds another value than before.
//
// event.changed("state", "upstream.nodes") is whether one of these fields of its
// JSON document does: a field that is there on one side only has changed.
//
// event.changedExcept("xlog_location") is whether anything but these has.
//
// Before is event.prev, so that the creation and the deletion of a key are
// changes. None of them fails: a value that is no JSON document has no fields,
// and changedExcept compares it as it is.
//
// A field is named by the names on the way to it, with dots between them, or by
// a JSON pointer, which begins with "/". A number is a place in a list.

// The functions behind the macros; nobody can write their names.
const (
	functionChanged       = "@changed"
	functionChangedExcept = "@changedExcept"
)

func changedFunctions() []cel.EnvOption {
	both := cost.ManualCost(
		func(cost.Estimator, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
			return cost.NewCallEstimate(cost.FixedCostEstimate(scan(2*inputSize)), nil)
		},
		func(args []ref.Val, _ ref.Val) *uint64 {
			c := uint64(1)
			if e, ok := args[0].(*eventVal); ok {
				c += scan(uint64(len(e.st.now.raw)))
				if old, ok := e.st.before(); ok {
					c += scan(uint64(len(old.raw)))
				}
			}
			return &c
		})
	overload := func(function string, changed func(st *state, paths []string) bool) cel.EnvOption {
		return cel.Function(function, cel.Overload(function+"_event_list", []*cel.Type{eventType, cel.ListType(cel.StringType)}, cel.BoolType,
			cel.BinaryBinding(func(event, paths ref.Val) ref.Val {
				e, ok := event.(*eventVal)
				if !ok {
					return types.MaybeNoSuchOverloadErr(event)
				}
				texts, err := textsOf(paths)
				if err != nil {
					return types.WrapErr(err)
				}
				return types.Bool(changed(e.st, texts))
			})))
	}
	macro := func(name, function string, needs bool) cel.Macro {
		return cel.ReceiverVarArgMacro(name, func(eh cel.MacroExprFactory, target ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
			if needs && len(args) == 0 {
				return nil, eh.NewError(target.ID(), name+"() names the fields that do not count; changed() is about all of them")
			}
			for _, arg := range args {
				path, ok := arg.AsLiteral().(types.String)
				if !ok {
					return nil, eh.NewError(arg.ID(), "the fields of "+name+`() are literal strings, such as "state" or "upstream.nodes"`)
				}
				if err := checkPath(string(path)); err != nil {
					return nil, eh.NewError(arg.ID(), err.Error())
				}
			}
			return eh.NewCall(function, target, eh.NewList(args...)), nil
		})
	}
	return []cel.EnvOption{
		cel.Macros(macro("changed", functionChanged, false), macro("changedExcept", functionChangedExcept, true)),
		overload(functionChanged, (*state).changed),
		overload(functionChangedExcept, (*state).changedExcept),
		cel.CostModel(
			cost.Overload(functionChanged+"_event_list", both),
			cost.Overload(functionChangedExcept+"_event_list", both),
		),
	}
}

// textsOf returns the elements of a list of strings.
func textsOf(v ref.Val) ([]string, error) {
	list, ok := v.(traits.Lister)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", v.Type().TypeName())
	}
	n, ok := list.Size().(types.Int)
	if !ok {
		return nil, fmt.Errorf("a list without a size")
	}
	texts := make([]string, n)
	for i := range texts {
		s, ok := list.Get(types.Int(i)).(types.String)
		if !ok {
			return nil, fmt.Errorf("element %d of the list is not a string", i)
		}
		texts[i] = string(s)
	}
	return texts, nil
}

func checkPath(path string) error {
	switch {
	case path == "":
		return fmt.Errorf("the name of a field is empty")
	case path[0] == '/':
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(path), "~") {
			return fmt.Errorf(`%q is no JSON pointer: "~" is written "~0", "/" in a name "~1"`, path)
		}
	case slices.Contains(strings.Split(path, "."), ""):
		return fmt.Errorf(`%q has an empty name in it; a name with a "." needs a JSON pointer, such as "/nodes/10.0.0.1"`, path)
	}
	return nil
}

// step cuts the first name off a path.
func step(path string) (name, rest string, more bool) {
	if path[0] != '/' {
		return strings.Cut(path, ".")
	}
	name, rest, more = strings.Cut(path[1:], "/")
	if strings.Contains(name, "~") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
	}
	return name, "/" + rest, more
}

// fieldOf returns what a path leads to; nil if that is nothing.
func fieldOf(v ref.Val, path string) ref.Val {
	for more := true; more; {
		var name string
		name, path, more = step(path)
		if v = member(v, name); v == nil {
			return nil
		}
	}
	return v
}

func member(v ref.Val, name string) ref.Val {
	switch t := v.(type) {
	case traits.Mapper:
		found, ok := t.Find(types.String(name))
		if !ok {
			return nil
		}
		return found
	case traits.Lister:
		i, err := strconv.ParseUint(name, 10, 31)
		if n, ok := t.Size().(types.Int); err != nil || !ok || types.Int(i) >= n {
			return nil
		}
		return t.Get(types.Int(i))
	default:
		return nil
	}
}

// before returns what the key held; false if it held nothing, as far as is known.
func (st *state) before() (*valueVal, bool) { return st.prev, st.prev != nil }

// differs reports whether the key holds something else than before, byte by byte.
func (st *state) differs() bool {
	old, ok := st.before()
	return !ok || st.event.Type == keyhook.Delete || !bytes.Equal(old.raw, st.now.raw)
}

func (st *state) changed(paths []string) bool {
	if len(paths) == 0 {
		return st.differs()
	}
	var now, before ref.Val
	if st.now.hasDocument() {
		now = st.now.json
	}
	if old, ok := st.before(); ok {
		if now != nil && bytes.Equal(old.raw, st.now.raw) {
			return false
		}
		if old.hasDocument() {
			before = old.json
		}
	}
	for _, path := range paths {
		if !same(fieldOf(now, path), fieldOf(before, path)) {
			return true
		}
	}
	return false
}

// same reports whether two values are equal; nil is a value that is not there.
func same(a, b ref.Val) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Equal(b) == types.True
}

func (st *state) changedExcept(paths []string) bool {
	if !st.differs() {
		return false
	}
	old, ok := st.before()
	if !ok || !st.now.hasDocument() || !old.hasDocument() {
		return true
	}
	return !sameExcept(st.now.json, old.json, paths)
}

// sameExcept compares two documents without what the paths lead to.
func sameExcept(a, b ref.Val, paths []string) bool {
	if len(paths) == 0 {
		return same(a, b)
	}
	switch x := a.(type) {
	case *jsonMap:
		y, ok := b.(*jsonMap)
		if !ok {
			return false
		}
		for name := range x.fields {
			if !sameMember(x, y, name, paths) {
				return false
			}
		}
		for name := range y.fields {
			if _, both := x.fields[name]; !both && !sameMember(x, y, name, paths) {
				return false
			}
		}
		return true
	case *jsonList:
		y, ok := b.(*jsonList)
		if !ok || lengthOf(x) != lengthOf(y) {
			return false
		}
		for i := range int(lengthOf(x)) { //nolint:gosec // the length of a list in memory
			if !sameMember(x, y, strconv.Itoa(i), paths) {
				return false
			}
		}
		return true
	default:
		return same(a, b)
	}
}

func sameMember(x, y ref.Val, name string, paths []string) bool {
	var inner []string
	for _, path := range paths {
		first, rest, more := step(path)
		switch {
		case first != name:
		case !more:
			return true
		default:
			inner = append(inner, rest)
		}
	}
	a, b := member(x, name), member(y, name)
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return sameExcept(a, b, inner)
}
