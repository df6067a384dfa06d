// Package freeport finds ports for servers of tests that are stopped and started
// again: a port that the kernel has picked may be taken by anybody's outgoing
// connection in between.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
)

// Address returns a loopback address that nobody listens on, with a port that the
// kernel gives to no outgoing connection, nor to who asks for any port.
func Address(t testing.TB) string {
	t.Helper()
	var lc net.ListenConfig
	from, to := ports()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", from+rand.IntN(to-from)) //nolint:gosec // it is no secret
		l, err := lc.Listen(t.Context(), "tcp", addr)
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("no free port")
	return ""
}

// ports returns the ports to choose from, the first and the one behind the last:
// below those that the kernel gives away or, if there are too few, above.
func ports() (from, to int) {
	first, last := 32768, 60999 // as Linux has them by default
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
			first, last = 32768, 60999
		}
	}
	return choose(first, last)
}

func choose(first, last int) (from, to int) {
	const lowest, end, enough = 10_000, 1 << 16, 2000
	switch {
	case first-lowest >= enough:
		return lowest, first
	case end-last-1 >= enough:
		return last + 1, end
	default:
		return lowest, end
	}
}
