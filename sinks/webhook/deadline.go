package webhook

import (
	"context"
	"net/http/httptrace"
	"time"
)

// deadline is the context of one attempt after the other. A context with a
// timeout and a trace for each of them would cost a tenth of what a request costs,
// and all of them would register with the same parent.
type deadline struct {
	ctx       context.Context // for a request, so it is no parameter
	parent    context.Context
	cancel    context.CancelFunc
	timer     *time.Timer
	connected bool // the attempt has a connection
}

// begin returns a deadline that ends with parent, or when the timeout is over.
func (s *Sink) begin(parent context.Context) *deadline {
	select {
	case d := <-s.deadlines:
		if d.parent == parent {
			d.connected = false
			d.timer.Reset(s.timeout)
			return d
		}
		d.end()
	default:
	}
	d := &deadline{parent: parent}
	d.ctx, d.cancel = context.WithCancel(parent)
	d.ctx = httptrace.WithClientTrace(d.ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { d.connected = true }})
	d.timer = time.AfterFunc(s.timeout, d.cancel)
	return d
}

// finish ends an attempt. Its deadline is used again only where the exchange was
// completed: nothing else can have it any more.
func (s *Sink) finish(d *deadline, completed bool) {
	if d.timer.Stop() && completed {
		select {
		case s.deadlines <- d:
			return
		default:
		}
	}
	d.end()
}

func (d *deadline) end() {
	d.timer.Stop()
	d.cancel()
}
