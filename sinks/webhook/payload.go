package webhook

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// maxCopy is the length up to which copying a body is cheaper than guarding it:
// net/http sends the header by itself, in a packet of its own, unless it knows
// the type of the body's reader.
const maxCopy = 32 << 10

// payload is the body of a request, which the transport may go on reading after
// RoundTrip has returned: release ends that.
type payload struct {
	copied []byte // set instead of data where the body is short

	mu       sync.Mutex
	data     []byte
	released bool
}

func newPayload(body []byte) *payload {
	if len(body) <= maxCopy {
		return &payload{copied: bytes.Clone(body)}
	}
	return &payload{data: body}
}

var errReleased = errors.New("the attempt is over")

// release returns once nothing reads the data any more, and lets go of it.
func (p *payload) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.released = nil, true
}

func (p *payload) reader() io.ReadCloser {
	if p.copied != nil {
		return io.NopCloser(bytes.NewReader(p.copied))
	}
	return &payloadReader{payload: p}
}

type payloadReader struct {
	payload *payload
	offset  int
}

func (r *payloadReader) Read(b []byte) (int, error) {
	p := r.payload
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.released:
		return 0, errReleased
	case r.offset == len(p.data):
		return 0, io.EOF
	}
	n := copy(b, p.data[r.offset:])
	r.offset += n
	return n, nil
}

func (r *payloadReader) Close() error { return nil }
