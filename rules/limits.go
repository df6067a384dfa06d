package rules

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Limits of the language, known when files are loaded.
const (
	maxExpressionSize  = 8192 // characters
	maxExpressionNodes = 5000
	maxExpressionDepth = 64
	maxRegexProgram    = 500 // instructions
	maxComprehensions  = 2   // nested
	maxName            = 200 // bytes of a name of a rule, send or sink
	maxPatternSize     = 8192
)

// Limits of a run. They lie above etcd's 1.5 MiB requests; escaping may make a
// payload six times as long.
const (
	maxPayload  = 16 << 20    // bytes that an expression may render
	maxJSON     = 2 << 20     // bytes of a value that is read as JSON
	maxDepth    = 64          // nesting of JSON that is read
	maxNesting  = 128         // nesting of JSON that is written: it may wrap what was read
	maxHeader   = 16 << 10    // bytes of a header's value
	maxSubject  = 1024        // bytes of a subject
	maxPer      = 4096        // bytes of what per gives
	inputSize   = 2 << 20     // bytes of one input that estimates reckon with
	maxCost     = 20_000_000  // of one expression: some 2 s of a busy core
	eventBudget = 100_000_000 // cost of the measured expressions of one rule on one event
)

// tier bounds one evaluation. The units of cost are CEL's; memory is the
// largest value that appears on the way, in bytes. They depend on the event and
// the expression only. The deadline is no bound that a rule should ever meet: it
// ends what a mistake in the accounting would let run on, and is far above what
// cost and memory allow on a loaded machine.
type tier struct {
	cost     uint64
	memory   uint32
	deadline time.Duration
}

// Whatever reads a value as large as etcd takes once, element by element, costs
// less than maxCost; what compares each of its elements with each other costs
// far more. Inputs, which nothing can make smaller, are allowed for in memory.
var (
	conditionTier = tier{cost: maxCost, memory: 2*inputSize + 1<<20, deadline: time.Minute}
	messageTier   = tier{cost: maxCost, memory: 2*inputSize + maxPayload, deadline: time.Minute}
)

// maxEstimate is up to which cost in the worst case a condition runs without
// being measured, which is ten times as fast.
const maxEstimate = 1_000_000

// Sizes are those of whole trees: the default counts the characters of every
// string each time. Depth and traversal are set because the library's own limits
// would refuse ordinary documents; documents that were read from JSON know their
// size.
var (
	sizeOptions = []types.SizeCalculatorOption{
		types.SizeCalculatorStringUnitLength(1),
		types.SizeCalculatorMaxDepth(maxNesting),
		types.SizeCalculatorMaxTraversal(2 * inputSize), // a node is a byte at least
	}
	sizing     = cost.AggregateSizingStrategy(sizeOptions...)
	calculator = types.NewSizeCalculator(sizeOptions...)
)

// sampleInterval is at which of the values that a step of a comprehension makes
// memory is looked at. A list that grows is counted anew each time; between two
// samples the cost bounds what is made: ten bytes of text are a unit.
const sampleInterval = 8192

// programOptions bound the evaluations of a program, whose largest regular
// expression has a number of instructions.
func (t tier) programOptions(instructions uint64) []cel.ProgramOption {
	opts := []cel.ProgramOption{
		cel.EvalOptions(cel.OptOptimize),
		cel.CostTracking(dynamicCost{}),
		cel.CostLimit(t.cost),
		cel.MemoryTracking(types.MemoryTrackerSizeCalculator(calculator), types.MemoryTrackerSampleInterval(sampleInterval)),
		cel.MemoryLimit(t.memory),
		cel.InterruptCheckFrequency(100),
	}
	if instructions > 0 {
		opts = append(opts, patternCosts(instructions))
	}
	return opts
}

// estimator tells CEL how large the inputs can be.
type estimator struct{}

// EstimateSize implements [cost.Estimator].
func (estimator) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if path := n.Path(); len(path) > 0 {
		if path[0] == nameEvent || path[0] == nameParams || path[0] == nameEvents || path[0] == namePer {
			return &cost.SizeEstimate{Max: inputSize}
		}
		return nil
	}
	// What optional access takes out of something is not larger than that.
	if e := n.Expr(); e != nil && e.Kind() == ast.CallKind {
		switch e.AsCall().FunctionName() {
		case operators.OptSelect, operators.OptIndex, operators.Index, "or", "orValue", "value":
			return &cost.SizeEstimate{Max: inputSize}
		}
	}
	return nil
}

// EstimateCallCost implements [cost.Estimator].
func (estimator) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
