package nats

import (
	"net"
	"time"
)

const (
	// stall is how long a server may read nothing of what is written to it.
	stall = 2 * time.Second
	// chunk is what it has to have read, at least in part, in that time.
	chunk = 16 << 10
)

// socket is a connection whose writes fail once the server stops to read. The
// client library writes with its lock held, so that otherwise nobody who waits
// for it could be interrupted.
type socket struct{ net.Conn }

func (s socket) Write(b []byte) (n int, err error) {
	for {
		if err := s.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return n, err
		}
		wrote, err := s.Conn.Write(b[n:min(n+chunk, len(b))])
		n += wrote
		if err != nil || n == len(b) {
			return n, err
		}
	}
}
