package rules

import (
	"math/bits"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// What CEL charges where it would charge linear work as quadratic, or nearly
// nothing for what takes long. A unit of cost is some 0.1 µs.

// costModels are part of the environment.
func costModels() []cel.EnvOption {
	target, needle, result := cost.Length(cost.Target()), cost.Length(cost.Arg(0)), cost.Length(cost.Result())
	one := cost.Const(1)
	replace := []cost.OverloadModelOption{
		cost.EvalCost(cost.Sum(one, cost.StringScan(target), result)),
		cost.ResultSize(cost.AtMost(cost.Mul(cost.Sum(cost.Target(), one), cost.Sum(cost.Arg(1), one)))),
	}
	models := []cost.OverloadModel{
		cost.MemberOverload(overloads.ContainsString, cost.EvalCost(cost.Sum(one, cost.StringScan(cost.Sum(target, needle))))),
		cost.MemberOverload("string_replace_string_string", replace...),
		cost.MemberOverload("string_replace_string_string_int", replace...),
	}
	for _, t := range []*types.Type{
		types.BoolType, types.BytesType, types.DoubleType, types.DurationType,
		types.IntType, types.StringType, types.TimestampType, types.UintType,
	} {
		models = append(models,
			cost.MemberOverload("list_"+t.TypeName()+"_sort", cost.ManualCost(estimateUnknown, sorting(0))),
			cost.MemberOverload("list_"+t.TypeName()+"_sortByAssociatedKeys", cost.ManualCost(estimateUnknown, sorting(1))),
		)
	}
	return []cel.EnvOption{cel.CostModel(models...)}
}

func estimateUnknown(cost.Estimator, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return cost.NewCallEstimate(cost.UnknownCostEstimate(), nil)
}

func sorting(keys int) cost.FunctionTracker {
	return func(args []ref.Val, _ ref.Val) *uint64 {
		c := cost.SafeAdd(1, sortCost(args[keys]))
		return &c
	}
}

func sortCost(list ref.Val) uint64 {
	n := lengthOf(list)
	each := cost.SafeAdd(2*n, scan(uint64(calculator.AggregateSize(list))))
	return cost.SafeMultiply(each, uint64(bits.Len64(n))) //nolint:gosec // at most 64
}

// scan is the cost of reading n bytes.
func scan(n uint64) uint64 { return (n + 9) / 10 }

// patternCosts are for an expression with regular expressions, the largest of
// which has a number of instructions: a match tries them all at each byte, at
// worst.
func patternCosts(instructions uint64) cel.ProgramOption {
	match := func(args []ref.Val, result ref.Val) *uint64 {
		c := cost.SafeAdd(1, cost.SafeMultiply(lengthOf(args[0])+1, instructions)/instructionsPerCost)
		if result.Type() != types.BoolType {
			c = cost.SafeAdd(c, uint64(calculator.AggregateSize(result)))
		}
		return &c
	}
	var opts []cost.TrackerOption
	for _, id := range []string{
		overloads.Matches, overloads.MatchesString, "regex_extract_string_string", "regex_extractAll_string_string",
		"regex_replace_string_string_string", "regex_replace_string_string_string_int",
	} {
		opts = append(opts, cost.OverloadTracker(id, match))
	}
	return cel.CostTrackerOptions(opts...)
}

// instructionsPerCost is how many instructions of a regular expression, each at
// one byte, are a unit of cost.
const instructionsPerCost = 20

// dynamicCost charges calls whose overload is known at run time only, for which
// CEL has no model.
type dynamicCost struct{}

// CallCost implements [cost.ActualCostEstimator].
func (dynamicCost) CallCost(function, overload string, args []ref.Val, _ ref.Val) *uint64 {
	if overload != "" {
		return nil
	}
	total := uint64(1)
	switch function {
	case operators.Index, overloads.Size:
	case operators.In:
		if list, ok := args[1].(traits.Lister); ok {
			total += uint64(calculator.AggregateSize(list))
		}
	case "sort", "@sortByAssociatedKeys":
		total = cost.SafeAdd(total, sortCost(args[len(args)-1]))
	default:
		for _, arg := range args {
			switch v := arg.(type) {
			case types.String:
				total = cost.SafeAdd(total, scan(uint64(len(v))))
			case types.Bytes:
				total = cost.SafeAdd(total, scan(uint64(len(v))))
			case traits.Lister:
				if function != operators.Add { // which does not copy
					total = cost.SafeAdd(total, lengthOf(v))
				}
			}
		}
	}
	return &total
}

// patternSize returns the number of instructions of a regular expression.
func patternSize(pattern string) uint64 {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return maxRegexProgram
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return maxRegexProgram
	}
	return uint64(len(prog.Inst))
}
