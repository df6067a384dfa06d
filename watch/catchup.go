package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"

	"keyhook"
)

// How a backlog is read. A watcher that is behind gets 1000 revisions each tenth
// of a second, and for each such response etcd reads all of its newer history,
// under the lock that writes need. But one reading serves many watchers. So the
// backlog is cut into segments of revisions, and each is read by a watcher of its
// own that begins there:
//
//	position            segment      segment      segment             head
//	   │ one watcher:  ┌─────────┬─────────────┬─────────┬── ─ ─ ─ ─   │
//	   └─ 1000 revs ──▶│ 1000 revs of the range in each  │             │
//	                   └────┬────┴──────┬──────┴────┬────┘
//	                     complete    complete      read    ──▶ queue, in order
//
// A segment is complete when a change at or past its end was sent, or progress
// that reaches the end. Nothing of it is taken before it is known that all
// segments are of one history: connections break and come back meanwhile, and
// etcd may have been restored in between.

// behindError ends a watcher that would catch up slowly.
type behindError struct {
	width int64 // of the revisions that one response held the changes of
	head  int64 // the member's revision
	bytes int   // that the response took
}

func (e *behindError) Error() string { return "the watch is far behind" }

// fullResponse is how many revisions etcd puts into one response to a watcher
// that is behind.
const fullResponse = 1000

// lag looks at a response that was taken. It returns an error if the backlog
// behind it is better read in segments.
func (r *runner) lag(rd *reader, resp *etcdserverpb.WatchResponse, before keyhook.Position, bytes int) error {
	head, at := resp.GetHeader().GetRevision(), rd.pos.Revision()
	if r.cfg.CatchUpWatchers == 1 || rd.fragments || rd.open || head-at <= r.cfg.CatchUpBehind || countRevisions(resp.GetEvents()) < fullResponse {
		return nil
	}
	return &behindError{width: at - before.Revision(), head: head, bytes: bytes}
}

func countRevisions(events []*mvccpb.Event) (n int) {
	last := int64(0)
	for _, ev := range events {
		if rev := ev.GetKv().GetModRevision(); rev != last {
			n, last = n+1, rev
		}
	}
	return n
}

// segment is a part of the backlog: the revisions from start to before end.
type segment struct {
	start, end int64
	cancel     context.CancelFunc
	done       chan struct{} // closed when the watcher has ended

	// Set before done is closed.
	responses []*etcdserverpb.WatchResponse // without what lies at or past the end
	rest      int64                         // what was not read, or not kept: from here to the end; 0 if nothing
	bytes     int
	received  time.Time
	err       error
}

// last returns the last change of the segment, nil if it has none.
func (s *segment) last() *mvccpb.Event {
	for i := len(s.responses) - 1; i >= 0; i-- {
		if evs := s.responses[i].GetEvents(); len(evs) > 0 {
			return evs[len(evs)-1]
		}
	}
	return nil
}

// take keeps the part of resp that lies within the segment, and reports whether
// the segment is complete.
func (s *segment) take(resp *etcdserverpb.WatchResponse) (complete bool) {
	if isProgress(resp) {
		return resp.GetHeader().GetRevision() >= s.end-1
	}
	events := resp.GetEvents()
	full := countRevisions(events) >= fullResponse
	for i, ev := range events {
		if ev.GetKv().GetModRevision() >= s.end {
			events, complete = events[:i], true
			break
		}
	}
	if len(events) > 0 {
		s.responses = append(s.responses, &etcdserverpb.WatchResponse{Header: resp.GetHeader(), Events: events})
		for _, ev := range events {
			s.bytes += eventSize(ev)
		}
	}
	if complete || len(events) == 0 {
		return complete
	}
	// A response holds all that there is up to its last revision. One that was cut
	// leaves the rest to a watcher of its own.
	switch at := events[len(events)-1].GetKv().GetModRevision(); {
	case at == s.end-1:
		return true
	case full:
		s.rest = at + 1
		return true
	}
	return false
}

// catchUp reads a backlog in segments.
type catchUp struct {
	*runner
	next, end int64 // what no segment was begun for
	width     int64
	size      int        // of one segment, about, in bytes
	active    []*segment // in order
	reading   sync.WaitGroup

	turn atomic.Int64 // the start of the segment that is awaited
	held atomic.Int64 // bytes of segments that are not queued yet; counted in buffered, too
}

// hold counts bytes that segments hold, and returns how many those of all ranges
// do.
func (c *catchUp) hold(bytes int) int64 {
	c.held.Add(int64(bytes))
	return c.buffered.Add(int64(bytes))
}

// catchUp reads from the reader's position up to the revision that the member was
// at. It returns nil when all that is queued, or why it goes no further; then the
// rest is up to a watcher that begins at the reader's position.
func (r *runner) catchUp(ctx context.Context, q *queue, rd *reader, behind *behindError) error {
	began, from := time.Now(), rd.pos.Revision()
	ctx, cancel := context.WithCancel(ctx)
	c := &catchUp{runner: r, next: rd.pos.Next, end: behind.head + 1, width: max(behind.width, fullResponse), size: behind.bytes}
	defer func() {
		cancel()
		c.reading.Wait()
		c.buffered.Add(-c.held.Load())
	}()
	for c.next < c.end || len(c.active) > 0 {
		c.begin(ctx)
		c.turn.Store(c.active[0].start)
		if err := c.await(ctx); err != nil {
			return err
		}
		ready, err := c.complete(ctx, rd)
		if err != nil {
			return err
		}
		for _, s := range ready {
			if err := c.queue(ctx, q, rd, s); err != nil {
				return err
			}
		}
	}
	r.cfg.Logger.Info("a backlog was read", "range", r.rng.String(), "from", from, "to", rd.pos.Revision(), "took", time.Since(began))
	return nil
}

// begin starts watchers for as many segments as may be held in memory.
func (c *catchUp) begin(ctx context.Context) {
	expected := c.buffered.Load()
	for _, s := range c.active {
		if !isDone(s) {
			expected += int64(c.size)
		}
	}
	for c.next < c.end && len(c.active) < c.cfg.CatchUpWatchers && (expected < int64(c.cfg.CatchUpBytes) || len(c.active) == 0) {
		s := &segment{start: c.next, end: min(c.next+c.width, c.end)}
		c.next = s.end
		c.active = append(c.active, s)
		c.watch(ctx, s)
		expected += int64(c.size)
	}
}

func (c *catchUp) watch(ctx context.Context, s *segment) {
	s.done = make(chan struct{})
	ctx, s.cancel = context.WithCancel(ctx)
	c.reading.Go(func() {
		defer close(s.done)
		defer s.cancel()
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
		defer func() { <-c.slots }()
		s.err = c.read(ctx, s)
	})
}

// read fills a segment from a stream of its own.
func (c *catchUp) read(ctx context.Context, s *segment) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := c.etcd.watch(ctx, c.rng, s.start, false)
	if err != nil {
		return err
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel(nil)
	heard := make(chan struct{}, 1)
	asking.Go(func() { c.askForProgress(ctx, cancel, stream, heard) })
	for {
		resp, err := stream.recv()
		if err != nil {
			if errors.Is(context.Cause(ctx), errSilent) {
				return errSilent
			}
			return err
		}
		switch {
		case resp.GetCompactRevision() > 0:
			c.seen.sawCompacted(resp.GetCompactRevision())
			return compactedError(c.rng, keyhook.Position{Next: s.start}, resp.GetCompactRevision())
		case resp.GetCanceled():
			return canceledError(resp)
		case resp.GetCreated():
			continue
		}
		if len(resp.GetEvents()) > 0 { // progress may be that of a member that lags behind the segment
			notify(heard)
		}
		had := s.bytes
		complete := s.take(resp)
		held := c.hold(s.bytes - had)
		if held > int64(c.cfg.CatchUpBytes) && s.start != c.turn.Load() { // larger than expected: read it when it is awaited
			c.hold(-s.bytes)
			c.cfg.Logger.Debug("a part of the backlog is larger than expected, and is read again when it is its turn",
				"range", c.rng.String(), "from", s.start, "to", s.end-1, "bytes", s.bytes)
			s.responses, s.bytes, s.rest = nil, 0, s.start
			return nil
		}
		if complete {
			s.received = time.Now()
			return nil
		}
	}
}

// askInterval is the time between requests for progress of a segment. They are
// answered once nothing is left to be sent.
const askInterval = 150 * time.Millisecond

func (c *catchUp) askForProgress(ctx context.Context, silent context.CancelCauseFunc, s stream, heard <-chan struct{}) {
	ticker := time.NewTicker(askInterval)
	defer ticker.Stop()
	deadline := time.NewTimer(c.cfg.ProgressDeadline)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-heard:
			deadline.Reset(c.cfg.ProgressDeadline)
			continue
		case <-deadline.C:
			silent(errSilent)
			return
		case <-ticker.C:
		}
		if err := s.requestProgress(); err != nil {
			return // the receiver learns why
		}
	}
}

// await waits for the first segment.
func (c *catchUp) await(ctx context.Context) error {
	select {
	case <-c.active[0].done:
		return c.active[0].err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// complete takes the segments that are complete off the front, after it was seen
// that they are of the history that the reader stands in.
func (c *catchUp) complete(ctx context.Context, rd *reader) ([]*segment, error) {
	var ready []*segment
	for len(c.active) > 0 && isDone(c.active[0]) && c.active[0].err == nil {
		s := c.active[0]
		ready, c.active = append(ready, s), c.active[1:]
		c.learn(s)
		if s.rest == s.start {
			ready = ready[:len(ready)-1]
		}
		if s.rest > 0 {
			rest := &segment{start: s.rest, end: s.end}
			s.end = s.rest
			c.watch(ctx, rest)
			c.active = append([]*segment{rest}, c.active...)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxVerifying)
	g.Go(func() error { return c.recognise(ctx, rd.pos, rd.anchor) })
	anchor := rd.anchor
	for _, s := range ready {
		if last := s.last(); last != nil {
			anchor = anchorAfter(anchor, last)
			behind := anchor
			g.Go(func() error { return c.recognise(ctx, keyhook.After(s.end-1), behind) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return ready, nil
}

// maxVerifying bounds the reads that are under way at once.
const maxVerifying = 16

func isDone(s *segment) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// learn adapts the width of later segments, so that each fits into one response,
// and the memory that is expected of them.
func (c *catchUp) learn(s *segment) {
	n := 0
	for _, resp := range s.responses {
		n += countRevisions(resp.GetEvents())
	}
	span := s.end - s.start
	if s.rest > 0 {
		span = s.rest - s.start
	}
	if span == 0 {
		return
	}
	switch {
	case n >= fullResponse || int64(n) == span:
		c.width = max(span, fullResponse)
	case n < fullResponse/2:
		c.width = min(2*c.width, maxWidth)
	}
	c.size = max((c.size+s.bytes)/2, 1)
}

// maxWidth bounds the revisions of a segment: a range in which little happens is
// read by few watchers.
const maxWidth = 1 << 20

// queue hands on what a segment holds. While the queue is full no stream is left
// unread: a segment ends by itself.
func (c *catchUp) queue(ctx context.Context, q *queue, rd *reader, s *segment) error {
	if rd.pos.Next != s.start {
		return fmt.Errorf("a segment begins at revision %d, but the position is %s", s.start, rd.pos)
	}
	rd.restart()
	for _, resp := range s.responses {
		c.seen.sawRevision(resp.GetHeader().GetRevision())
		if q.push(rd.take(resp, s.received)) {
			if err := q.waitHalf(ctx); err != nil {
				return err
			}
		}
	}
	before := rd.pos
	if rd.progress(s.end - 1); rd.pos != before {
		q.push(item{end: rd.pos, anchor: rd.anchor, received: s.received, bytes: itemOverhead})
	}
	s.responses = nil
	c.hold(-s.bytes)
	return nil
}
