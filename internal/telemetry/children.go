package telemetry

import (
	"maps"
	"sync"
)

// children are the series of a vector by the parts of their labels, so that
// finding one neither hashes labels nor allocates.
type children[K comparable, M any] struct {
	mu sync.RWMutex
	m  map[K]M
}

func (c *children[K, M]) get(k K) (M, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.m[k]
	return m, ok
}

func (c *children[K, M]) add(k K, m M) M {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[K]M)
	}
	c.m[k] = m
	return m
}

// keep forgets the series of which ok says no.
func (c *children[K, M]) keep(ok func(K) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.m, func(k K, _ M) bool { return !ok(k) })
}
