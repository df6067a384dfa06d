package lab

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// echo answers every line with itself until the test ends, and returns where.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// caller talks to an echo through a proxy.
type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func call(t *testing.T, p *Proxy) *caller {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &caller{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (c *caller) say(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *caller) hear(line string) {
	c.t.Helper()
	if got, err := c.in.ReadString('\n'); err != nil || got != line+"\n" {
		c.t.Fatalf("heard %q (%v), not %q", got, err, line)
	}
}

// ended waits until the connection is over.
func (c *caller) ended() {
	c.t.Helper()
	if got, err := c.in.ReadString('\n'); err == nil {
		c.t.Fatalf("heard %q on a connection that should have ended", got)
	}
}

// silent reports whether nothing is heard for a while.
func (c *caller) silent(d time.Duration) bool {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
	_, err := c.in.Peek(1)
	var timeout net.Error
	silent := errors.As(err, &timeout) && timeout.Timeout()
	if err := c.conn.SetReadDeadline(time.Time{}); err != nil {
		c.t.Fatal(err)
	}
	return silent
}

func TestProxyPassesAndCuts(t *testing.T) {
	p := StartProxy(t, echo(t))
	old := call(t, p)
	old.say("one")
	old.hear("one")
	p.Sever()
	old.ended()

	next := call(t, p)
	next.say("two")
	next.hear("two")
	p.Cut()
	next.ended()
	call(t, p).ended()

	p.Pass()
	last := call(t, p)
	last.say("three")
	last.hear("three")
}

func TestProxyHoldsBackInAHoleAndLosesNothing(t *testing.T) {
	p := StartProxy(t, echo(t))
	before := call(t, p)
	before.say("before")
	before.hear("before")
	p.Blackhole()
	within := call(t, p)
	before.say("held")
	within.say("held, too")
	if !before.silent(50*time.Millisecond) || !within.silent(50*time.Millisecond) {
		t.Fatal("something came through a hole")
	}
	p.Pass()
	before.hear("held")
	within.hear("held, too")

	p.Blackhole()
	before.say("lost")
	p.Sever()
	before.ended()
}

func TestProxySwallowsWhatOneSenderSays(t *testing.T) {
	p := startProxy(t, echo(t), func(first []byte) string { return strings.TrimSpace(string(first)) })
	one, other := call(t, p), call(t, p)
	for name, c := range map[string]*caller{"one": one, "other": other} {
		c.say(name)
		c.hear(name)
	}
	p.swallow("one")
	other.say("heard")
	other.hear("heard")
	one.say("held")
	if !one.silent(50 * time.Millisecond) {
		t.Fatal("what was to be swallowed came through")
	}
	p.Pass()
	one.hear("held")
}

func TestProxyDelays(t *testing.T) {
	p := StartProxy(t, echo(t))
	c := call(t, p)
	const delay = 40 * time.Millisecond
	p.Delay(delay)
	began := time.Now()
	c.say("slow")
	c.hear("slow")
	if took := time.Since(began); took < 2*delay {
		t.Errorf("there and back took %v", took)
	}
	p.Delay(time.Hour)
	c.say("held")
	p.Pass()
	c.hear("held")
}
