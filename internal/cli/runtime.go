package cli

import (
	"os"
	"runtime"
	"runtime/debug"
)

// softMemoryLimit is what the garbage collector aims to stay below. What is held
// is bounded elsewhere; without a limit the heap would grow to twice that before
// it is collected.
const softMemoryLimit = 208 << 20

// tuneRuntime sets what the environment does not.
func tuneRuntime() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemoryLimit)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		// While every processor of the scheduler evaluates or commits, it looks at
		// the network once in 10 ms only: catching up would starve what is being
		// delivered. With as many again the kernel shares the cores out.
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}
