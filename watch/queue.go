package watch

import (
	"context"
	"sync"
)

// queue holds what was received and not admitted yet, bounded in bytes: whoever
// pushes must stop when it is full, and may begin again when it is half empty.
// The last item may overshoot the bound. One goroutine pushes, one pops.
type queue struct {
	limit int

	mu    sync.Mutex
	items []item
	bytes int   // of the items, and of those popped but not released
	end   error // there will be no more items, for this reason

	arrived  chan struct{} // of capacity 1: items is no longer empty
	released chan struct{} // of capacity 1: bytes became less
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, arrived: make(chan struct{}, 1), released: make(chan struct{}, 1)}
}

// push appends it and reports whether the queue is full now.
func (q *queue) push(it item) (full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, it)
	q.bytes += it.bytes
	notify(q.arrived)
	return q.bytes >= q.limit
}

// close ends the queue: when it is empty, tryPop returns end.
func (q *queue) close(end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end = end
	notify(q.arrived)
}

// tryPop returns the first item, if there is one. Its bytes count until they are
// released. An error is why there will be none.
func (q *queue) tryPop() (it item, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item{}, false, q.end
	}
	it = q.items[0]
	q.items[0] = item{}
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	return it, true, nil
}

func (q *queue) release(bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= bytes
	notify(q.released)
}

// waitHalf waits until at most half of the limit is in use.
func (q *queue) waitHalf(ctx context.Context) error {
	for {
		q.mu.Lock()
		ok := q.bytes <= q.limit/2
		q.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-q.released:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
