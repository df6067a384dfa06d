package cli

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// softMemoryLimit is what the garbage collector aims to stay below. What is
	// held is bounded elsewhere; without a limit the heap would grow by as much
	// before it is collected.
	softMemoryLimit = 208 << 20

	// What is live while all goes well is little. Collected whenever it has doubled,
	// it would be collected ten times a second, at a tenth of what deliveries cost.
	// So the collector believes that there is more, of which no page is ever
	// touched, and lets the heap grow by half of the sum: from 25 MiB to 69, from
	// 75 MiB to 144. Where memory is highest that makes no difference.
	ballastSize   = 64 << 20
	ballastGrowth = 50 // percent
)

var ballast []byte //nolint:unused // it is enough that it is there

// tuneRuntime sets what the environment does not.
func tuneRuntime() {
	if os.Getenv("GOMEMLIMIT") == "" {
		limit := int64(softMemoryLimit)
		if os.Getenv("GOGC") == "" {
			ballast = make([]byte, ballastSize)
			limit += ballastSize // which counts
			debug.SetGCPercent(ballastGrowth)
		}
		debug.SetMemoryLimit(limit)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// While every processor of the scheduler evaluates or commits, it looks at
		// the network once in 10 ms only: catching up would starve what is being
		// delivered. With as many again the kernel shares the cores out.
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}
