package checkpointtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"keyhook"
	"keyhook/checkpoint"
)

var (
	_ checkpoint.Store  = (*Memory)(nil)
	_ checkpoint.Mirror = (*Memory)(nil)
)

// Memory is a checkpoint that lives as long as the process. It remembers
// deleted keys for exactly as long as it must.
type Memory struct {
	mu     sync.Mutex
	hooks  Hooks
	shards map[uint32]*shard
}

// Hooks make a Memory fail, wait, or tell what it does. Each may be nil; each
// runs without a lock, in the goroutine of the caller.
type Hooks struct {
	// BeforeCommit runs first. If it returns an error, so does Commit, and
	// nothing is written.
	BeforeCommit func(ctx context.Context, c *checkpoint.Commit) error
	// AfterCommit runs when c is durable. If it returns an error, so does
	// Commit: the caller does not know the outcome.
	AfterCommit func(ctx context.Context, c *checkpoint.Commit) error
	// BeforeRead runs at the beginning of the other methods, with their name. If
	// it returns an error, so do they.
	BeforeRead func(ctx context.Context, method string) error
}

type shard struct {
	state  *checkpoint.State
	chains map[chainKey][]*keyhook.Delivery // in the order of their ordinals
	dead   []checkpoint.DeadLetter
	mirror map[string]*checkpoint.Entry
}

type chainKey struct {
	lane  uint32
	chain uint64
}

// NewMemory returns a Memory that holds nothing.
func NewMemory() *Memory {
	return &Memory{shards: make(map[uint32]*shard)}
}

// SetHooks replaces the hooks.
func (m *Memory) SetHooks(h Hooks) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = h
}

// Clone returns what a crash at this moment would leave behind: the same
// content, without the hooks.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := NewMemory()
	for number, s := range m.shards {
		n.shards[number] = s.clone()
	}
	return n
}

// clone copies what Commit changes in place; the rest is never written to.
func (s *shard) clone() *shard {
	n := &shard{state: s.state, chains: maps.Clone(s.chains), dead: slices.Clone(s.dead), mirror: maps.Clone(s.mirror)}
	for k, ds := range n.chains {
		n.chains[k] = slices.Clone(ds)
	}
	return n
}

// Commit implements [checkpoint.Store].
func (m *Memory) Commit(ctx context.Context, c *checkpoint.Commit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h := m.currentHooks()
	if h.BeforeCommit != nil {
		if err := h.BeforeCommit(ctx, c); err != nil {
			return err
		}
	}
	if err := m.commit(c); err != nil {
		return err
	}
	if h.AfterCommit != nil {
		return h.AfterCommit(ctx, c)
	}
	return nil
}

func (m *Memory) currentHooks() Hooks {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hooks
}

func (m *Memory) commit(c *checkpoint.Commit) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[c.Shard]
	if s == nil {
		s = &shard{
			state:  &checkpoint.State{},
			chains: make(map[chainKey][]*keyhook.Delivery),
			mirror: make(map[string]*checkpoint.Entry),
		}
	}
	next, err := s.state.After(c, s.sinkOf)
	if err != nil || next == s.state {
		return err
	}
	if err := s.checkRetried(c); err != nil {
		return err
	}
	s.state = next
	m.shards[c.Shard] = s
	s.setMirror(c)
	s.setDeliveries(c)
	return nil
}

func (s *shard) sinkOf(number uint64) (string, bool, error) {
	i, found := s.findDead(number)
	if !found {
		return "", false, nil
	}
	return s.dead[i].Delivery.Sink, true, nil
}

func (s *shard) findDead(number uint64) (int, bool) {
	return slices.BinarySearchFunc(s.dead, number, func(d checkpoint.DeadLetter, n uint64) int { return cmp.Compare(d.Number, n) })
}

// checkRetried is stricter than a backend has to be, to find defects of callers.
func (s *shard) checkRetried(c *checkpoint.Commit) error {
	for _, o := range c.Retried {
		_, _, found := s.find(o.Ref)
		if !found && !slices.ContainsFunc(c.Admitted, func(a checkpoint.Admission) bool {
			return checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal} == o.Ref
		}) {
			return fmt.Errorf("%w: the retried delivery %+v is not owed", checkpoint.ErrInvalid, o.Ref)
		}
	}
	return nil
}

func (s *shard) setMirror(c *checkpoint.Commit) {
	for _, r := range checkpoint.Uncovered(c.DropRanges, s.state.Ranges) {
		maps.DeleteFunc(s.mirror, func(key string, _ *checkpoint.Entry) bool { return r.Contains([]byte(key)) })
	}
	for _, ch := range c.Mirror {
		if ch.Entry == nil {
			delete(s.mirror, string(ch.Key))
			continue
		}
		s.mirror[string(ch.Key)] = cloneEntry(ch.Entry)
	}
	if len(c.Ranges) == 0 {
		return
	}
	maps.DeleteFunc(s.mirror, func(key string, e *checkpoint.Entry) bool {
		if !e.Deleted {
			return false
		}
		i := slices.IndexFunc(s.state.Ranges, func(r checkpoint.RangeState) bool { return r.Range.Contains([]byte(key)) })
		return i >= 0 && !e.Remembered(s.state.Ranges[i].Forgotten)
	})
}

func (s *shard) setDeliveries(c *checkpoint.Commit) {
	for _, lane := range c.DropLanes {
		maps.DeleteFunc(s.chains, func(k chainKey, _ []*keyhook.Delivery) bool { return k.lane == lane })
	}
	for _, a := range c.Admitted {
		ref := checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal}
		d := cloneDelivery(a.Delivery)
		k, i, found := s.find(ref)
		if found {
			s.chains[k][i] = d
		} else {
			s.chains[k] = slices.Insert(s.chains[k], i, d)
		}
	}
	for _, o := range c.Retried {
		k, i, found := s.find(o.Ref)
		if !found {
			continue
		}
		d := *s.chains[k][i]
		d.Admitted, d.Retry = o.Admitted, o.Retry
		s.chains[k][i] = cloneDelivery(&d)
	}
	for _, ref := range c.Settled {
		k, i, found := s.find(ref)
		if !found {
			continue
		}
		if s.chains[k] = slices.Delete(s.chains[k], i, i+1); len(s.chains[k]) == 0 {
			delete(s.chains, k)
		}
	}
	for _, d := range c.Dead {
		d.Delivery = cloneDelivery(d.Delivery)
		d.FailedAt = wall(d.FailedAt)
		s.dead = append(s.dead, d)
	}
	for _, number := range c.DropDead {
		if i, found := s.findDead(number); found {
			s.dead = slices.Delete(s.dead, i, i+1)
		}
	}
}

func (s *shard) find(ref checkpoint.Ref) (chainKey, int, bool) {
	k := chainKey{ref.Lane, ref.Chain}
	i, found := slices.BinarySearchFunc(s.chains[k], ref.Ordinal, func(d *keyhook.Delivery, ordinal uint64) int {
		return cmp.Compare(d.Ordinal, ordinal)
	})
	return k, i, found
}

// Load implements [checkpoint.Store].
func (m *Memory) Load(ctx context.Context, number uint32) (*checkpoint.State, error) {
	s, err := m.open(ctx, "Load", number)
	if err != nil {
		return nil, err
	}
	st := s.state.Clone()
	for i := range st.Sinks {
		st.Sinks[i].Since, st.Sinks[i].PausedSince = wall(st.Sinks[i].Since), wall(st.Sinks[i].PausedSince)
	}
	return st, nil
}

// open returns a copy of a shard, to read at leisure.
func (m *Memory) open(ctx context.Context, method string, number uint32) (*shard, error) {
	if err := m.beforeRead(ctx, method); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.shards[number]; s != nil {
		return s.clone(), nil
	}
	return &shard{state: &checkpoint.State{}}, nil
}

func (m *Memory) beforeRead(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h := m.currentHooks(); h.BeforeRead != nil {
		return h.BeforeRead(ctx, method)
	}
	return nil
}

// Owed implements [checkpoint.Store].
func (m *Memory) Owed(ctx context.Context, number uint32) iter.Seq2[checkpoint.Owed, error] {
	return func(yield func(checkpoint.Owed, error) bool) {
		s, err := m.open(ctx, "Owed", number)
		if err != nil {
			yield(checkpoint.Owed{}, err)
			return
		}
		for _, k := range s.sorted() {
			for _, d := range s.chains[k] {
				ref := checkpoint.Ref{Lane: k.lane, Chain: k.chain, Ordinal: d.Ordinal}
				if !yield(checkpoint.Owed{Ref: ref, Admitted: d.Admitted, Retry: d.Retry}, nil) {
					return
				}
			}
		}
	}
}

// Find implements [checkpoint.Store].
func (m *Memory) Find(ctx context.Context, number uint32, refs []checkpoint.Ref) ([]checkpoint.Owed, error) {
	if err := m.beforeRead(ctx, "Find"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[number]
	if s == nil {
		return nil, nil
	}
	var all []checkpoint.Owed
	for _, ref := range refs {
		if k, i, found := s.find(ref); found {
			d := s.chains[k][i]
			all = append(all, checkpoint.Owed{Ref: ref, Admitted: d.Admitted, Retry: d.Retry})
		}
	}
	return all, nil
}

// sorted returns the places of what is owed by lane and chain.
func (s *shard) sorted() []chainKey {
	return slices.SortedFunc(maps.Keys(s.chains), func(a, b chainKey) int {
		return cmp.Or(cmp.Compare(a.lane, b.lane), cmp.Compare(a.chain, b.chain))
	})
}

// Deliveries implements [checkpoint.Store].
func (m *Memory) Deliveries(ctx context.Context, number uint32, from checkpoint.Ref) iter.Seq2[checkpoint.Admission, error] {
	return func(yield func(checkpoint.Admission, error) bool) {
		s, err := m.open(ctx, "Deliveries", number)
		if err != nil {
			yield(checkpoint.Admission{}, err)
			return
		}
		for _, k := range s.sorted() {
			for _, d := range s.chains[k] {
				if cmp.Or(cmp.Compare(k.lane, from.Lane), cmp.Compare(k.chain, from.Chain), cmp.Compare(d.Ordinal, from.Ordinal)) < 0 {
					continue
				}
				if !yield(checkpoint.Admission{Lane: k.lane, Chain: k.chain, Delivery: cloneDelivery(d)}, nil) {
					return
				}
			}
		}
	}
}

// Read implements [checkpoint.Store].
func (m *Memory) Read(ctx context.Context, number, lane uint32, chain, from uint64, maxBytes int) ([]*keyhook.Delivery, error) {
	if err := m.beforeRead(ctx, "Read"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[number]
	if s == nil {
		return nil, nil
	}
	k, i, _ := s.find(checkpoint.Ref{Lane: lane, Chain: chain, Ordinal: from})
	var ds []*keyhook.Delivery
	for _, d := range s.chains[k][i:] {
		if maxBytes -= d.Size(); maxBytes < 0 && len(ds) > 0 {
			break
		}
		ds = append(ds, cloneDelivery(d))
	}
	return ds, nil
}

// Dead implements [checkpoint.Store].
func (m *Memory) Dead(ctx context.Context, number uint32) iter.Seq2[checkpoint.Dead, error] {
	return func(yield func(checkpoint.Dead, error) bool) {
		s, err := m.open(ctx, "Dead", number)
		if err != nil {
			yield(checkpoint.Dead{}, err)
			return
		}
		for i := range s.dead {
			if !yield(s.dead[i].Dead(), nil) {
				return
			}
		}
	}
}

// DeadLetters implements [checkpoint.Store].
func (m *Memory) DeadLetters(ctx context.Context, number uint32, from uint64) iter.Seq2[checkpoint.DeadLetter, error] {
	return func(yield func(checkpoint.DeadLetter, error) bool) {
		s, err := m.open(ctx, "DeadLetters", number)
		if err != nil {
			yield(checkpoint.DeadLetter{}, err)
			return
		}
		first, _ := s.findDead(from)
		for _, d := range s.dead[first:] {
			d.Delivery = cloneDelivery(d.Delivery)
			if !yield(d, nil) {
				return
			}
		}
	}
}

// Lookup implements [checkpoint.Mirror].
func (m *Memory) Lookup(ctx context.Context, number uint32, key []byte) (*checkpoint.Entry, error) {
	if err := m.beforeRead(ctx, "Lookup"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.shards[number]; s != nil && s.mirror[string(key)] != nil {
		return cloneEntry(s.mirror[string(key)]), nil
	}
	return nil, nil
}

// LookupAll implements [checkpoint.Mirror].
func (m *Memory) LookupAll(ctx context.Context, number uint32, keys [][]byte, maxBytes int) (found []*checkpoint.Entry, err error) {
	for _, key := range keys {
		e, err := m.Lookup(ctx, number, key)
		if err != nil {
			return nil, err
		}
		if e != nil {
			maxBytes -= len(e.Value)
		}
		if maxBytes < 0 && len(found) > 0 {
			break
		}
		found = append(found, e)
	}
	return found, nil
}

// Entries implements [checkpoint.Mirror].
func (m *Memory) Entries(ctx context.Context, number uint32, r keyhook.Range) iter.Seq2[checkpoint.KeyEntry, error] {
	return func(yield func(checkpoint.KeyEntry, error) bool) {
		s, err := m.open(ctx, "Entries", number)
		if err != nil {
			yield(checkpoint.KeyEntry{}, err)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(s.mirror)) {
			if !r.Contains([]byte(key)) {
				continue
			}
			if !yield(checkpoint.KeyEntry{Key: []byte(key), Entry: *cloneEntry(s.mirror[key])}, nil) {
				return
			}
		}
	}
}

func cloneEntry(e *checkpoint.Entry) *checkpoint.Entry {
	n := *e
	n.Value = bytes.Clone(e.Value)
	return &n
}

// cloneDelivery copies what may change; events and messages never do.
func cloneDelivery(d *keyhook.Delivery) *keyhook.Delivery {
	n := *d
	n.Admitted, n.Retry.Due = wall(d.Admitted), wall(d.Retry.Due)
	return &n
}

// wall returns t as it comes back from a record: UTC, without a monotonic reading.
func wall(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}
