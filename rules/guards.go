package rules

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	celfunctions "cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// A call is charged when it is done, which is too late for one that compares each
// element with each other, or whose result is many times its input. Those are
// looked at before they begin.

// work is what a call will do: its cost, and the bytes of its result.
type work struct{ cost, bytes uint64 }

var guards = map[string]func(args []ref.Val) work{
	"distinct":        func(args []ref.Val) work { return pairs(args[0], args[0]) },
	"sets.contains":   compareLists,
	"sets.equivalent": compareLists,
	"sets.intersects": compareLists,
	"hasOnly":         compareLists,
	"hasAny":          compareLists,
	"hasAll":          compareLists,
	"hasExactly":      compareLists,
	"indexOf":         searchText,
	"lastIndexOf":     searchText,
	"join":            joinText,
	"replace":         replaceText,
	"regex.replace":   replacePattern,
}

// guarded replaces the functions of env by ones that refuse what is too much.
func guarded(env *cel.Env) (*cel.Env, error) {
	var opts []cel.EnvOption
	for name, guard := range guards {
		decl := env.Functions()[name]
		if decl == nil {
			return nil, fmt.Errorf("there is no function %s to guard", name)
		}
		bindings, err := decl.Bindings()
		if err != nil {
			return nil, err
		}
		byID := make(map[string]*celfunctions.Overload, len(bindings))
		for _, b := range bindings {
			byID[b.Operator] = b
		}
		for _, o := range decl.OverloadDecls() {
			b := byID[o.ID()]
			if b == nil {
				return nil, fmt.Errorf("there is nothing behind %s to guard", o.ID())
			}
			overload := cel.Overload
			if o.IsMemberFunction() {
				overload = cel.MemberOverload
			}
			opts = append(opts, cel.Function(name, overload(o.ID(), o.ArgTypes(), o.ResultType(), guardedBinding(b, guard))))
		}
	}
	return env.Extend(opts...)
}

func guardedBinding(b *celfunctions.Overload, guard func([]ref.Val) work) cel.OverloadOpt {
	switch {
	case b.Unary != nil:
		return cel.UnaryBinding(func(v ref.Val) ref.Val {
			guard([]ref.Val{v}).check()
			return b.Unary(v)
		})
	case b.Binary != nil:
		return cel.BinaryBinding(func(x, y ref.Val) ref.Val {
			guard([]ref.Val{x, y}).check()
			return b.Binary(x, y)
		})
	default:
		return cel.FunctionBinding(func(args ...ref.Val) ref.Val {
			guard(args).check()
			return b.Function(args...)
		})
	}
}

// check ends the evaluation as CEL's own limits do.
func (w work) check() {
	if w.cost > maxCost {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "the call costs too much"})
	}
	if w.bytes > uint64(messageTier.memory) {
		panic(interpreter.EvalCancelledError{Cause: interpreter.MemoryLimitExceeded, Message: "the result of the call is too large"})
	}
}

func lengthOf(v ref.Val) uint64 {
	switch t := v.(type) {
	case types.String:
		return uint64(len(t))
	case traits.Sizer:
		if n, ok := t.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 0
}

// textOfArg returns an argument of an overload that CEL calls with a string there.
func textOfArg(v ref.Val) string {
	s, _ := v.(types.String)
	return string(s)
}

func pairs(x, y ref.Val) work {
	return work{cost: cost.SafeMultiply(lengthOf(x), lengthOf(y))}
}

func compareLists(args []ref.Val) work { return pairs(args[0], args[1]) }

// searchText looks for a text at each place, one character after the other.
func searchText(args []ref.Val) work {
	w := pairs(args[0], args[1])
	w.cost /= 10
	return w
}

func joinText(args []ref.Val) work {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return work{}
	}
	bytes := uint64(calculator.AggregateSize(list))
	if len(args) > 1 {
		bytes = cost.SafeAdd(bytes, cost.SafeMultiply(lengthOf(list), lengthOf(args[1])))
	}
	return work{bytes: bytes}
}

// replaceText counts what will be replaced only where that can matter.
func replaceText(args []ref.Val) work {
	text, old := textOfArg(args[0]), textOfArg(args[1])
	each := lengthOf(args[2])
	bytes := cost.SafeAdd(uint64(len(text)), cost.SafeMultiply(uint64(len(text)/max(len(old), 1)+1), each))
	if bytes > uint64(messageTier.memory) {
		n := strings.Count(text, old)
		bytes = cost.SafeAdd(uint64(len(text)-n*len(old)), cost.SafeMultiply(uint64(n), each)) //nolint:gosec // what is counted is part of the text
	}
	return work{bytes: bytes}
}

// replacePattern reckons with a replacement that repeats what the pattern found.
func replacePattern(args []ref.Val) work {
	text, replacement := textOfArg(args[0]), textOfArg(args[2])
	length, each := uint64(len(text)), uint64(len(replacement))
	repeated := cost.SafeMultiply(length, uint64(strings.Count(replacement, `\`))) //nolint:gosec // a count
	bytes := cost.SafeAdd(length, repeated, cost.SafeMultiply(length+1, each))
	if bytes > uint64(messageTier.memory) {
		re, err := regexp.Compile(textOfArg(args[1]))
		if err != nil {
			return work{} // which the call itself will say
		}
		found := len(re.FindAllStringIndex(text, math.MaxInt))
		bytes = cost.SafeAdd(length, repeated, cost.SafeMultiply(uint64(found), each))
	}
	return work{bytes: bytes}
}
