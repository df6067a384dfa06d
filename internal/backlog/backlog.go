package backlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"keyhook"
	"keyhook/checkpoint"
	"keyhook/dispatcher"
)

// Config is what a Backlog works with. Store and Dispatcher are required.
type Config struct {
	Store      Store
	Dispatcher Dispatcher // of the same store and shard; it runs
	Shard      uint32
	// Live: the dispatcher delivers, and knows what the rule files define.
	Live bool
	// Renderer returns what makes messages with the rules of today. It is asked
	// once for each step that needs one. Nil: nothing can be rendered.
	Renderer func() (Renderer, error)
}

// Renderer makes the message of a dead letter anew, under the same id. Its error
// says why that cannot be.
type Renderer func(*keyhook.Delivery) (*keyhook.Delivery, error)

// Store is what is read of a [checkpoint.Store].
type Store interface {
	Load(ctx context.Context, shard uint32) (*checkpoint.State, error)
	DeadLetters(ctx context.Context, shard uint32, from uint64) iter.Seq2[checkpoint.DeadLetter, error]
	Deliveries(ctx context.Context, shard uint32, from checkpoint.Ref) iter.Seq2[checkpoint.Admission, error]
}

// Dispatcher is what is asked of a [dispatcher.Dispatcher].
type Dispatcher interface {
	Flush(ctx context.Context) error
	Status() dispatcher.Status
	Pause(ctx context.Context, sink string) error
	Resume(ctx context.Context, sink string) error
	Requeue(ctx context.Context, letters []dispatcher.Requeue) (int, error)
	Discard(ctx context.Context, numbers []uint64) (int, error)
	Purge(ctx context.Context, refs []checkpoint.Ref) (int, error)
}

var (
	_ Desk       = (*Backlog)(nil)
	_ Dispatcher = (*dispatcher.Dispatcher)(nil)
)

// Backlog works on a store, through the dispatcher that owns it.
type Backlog struct{ cfg Config }

// New returns a Backlog.
func New(cfg Config) (*Backlog, error) {
	if cfg.Store == nil || cfg.Dispatcher == nil {
		return nil, errors.New("backlog: Config.Store or Config.Dispatcher is missing")
	}
	return &Backlog{cfg: cfg}, nil
}

// What a page or a step takes at most. Steps end well before a client or a
// server loses patience.
const (
	pageItems = 4000
	pageBytes = 1 << 20 // of keys and errors

	stepSeen   = 20_000   // looked at
	stepLetter = 500      // sent again
	stepBytes  = 4 << 20  // of what is sent again
	stepRead   = 64 << 20 // of what is looked at
	stepPurge  = 10_000   // removed
)

// flushPatience is how long is waited for what was admitted just now. Where
// commits fail, what is on disk can still be looked at.
const flushPatience = 2 * time.Second

// settle waits until what was admitted so far can be read in the store.
func (b *Backlog) settle(ctx context.Context) error {
	brief, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	err := b.cfg.Dispatcher.Flush(brief)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil
	}
	return err
}

// DeadLetters implements [Desk].
func (b *Backlog) DeadLetters(ctx context.Context, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := b.begin(ctx, &f); err != nil {
			yield(Letter{}, err)
			return
		}
		var from uint64
		var page []Letter
		for {
			page = page[:0]
			next, err := b.letterPage(ctx, &f, from, &page)
			if !yieldAll(page, err, yield) || next == 0 {
				return
			}
			from = next
		}
	}
}

func (b *Backlog) begin(ctx context.Context, f *Filter) error {
	if err := f.Check(); err != nil {
		return &InvalidError{err}
	}
	return b.settle(ctx)
}

// yieldAll yields a page and then what ended it, if that is an error. It reports
// whether to go on.
func yieldAll[T any](page []T, err error, yield func(T, error) bool) bool {
	for _, v := range page {
		if !yield(v, nil) {
			return false
		}
	}
	if err != nil {
		var none T
		yield(none, err)
		return false
	}
	return true
}

// letterPage adds to page what f means, from a number on. It returns the number
// of the next page, 0 if there is none. The store is let go of between pages:
// whoever reads them may be slow.
func (b *Backlog) letterPage(ctx context.Context, f *Filter, from uint64, page *[]Letter) (next uint64, err error) {
	bytes := 0
	for l, err := range b.cfg.Store.DeadLetters(ctx, b.cfg.Shard, from) {
		if err != nil {
			return 0, fmt.Errorf("read the dead letters: %w", err)
		}
		if len(*page) == pageItems || bytes > pageBytes {
			return l.Number, nil
		}
		if f.letter(&l.DeadLetter) {
			v := letterOf(&l.DeadLetter)
			bytes += len(v.Key) + len(v.KeyBase64) + len(v.Error)
			*page = append(*page, v)
		}
	}
	return 0, nil
}

// DeadLetter implements [Desk].
func (b *Backlog) DeadLetter(ctx context.Context, id string) (*Story, error) {
	if err := b.settle(ctx); err != nil {
		return nil, err
	}
	var found *keyhook.DeadLetter
	for l, err := range b.cfg.Store.DeadLetters(ctx, b.cfg.Shard, 0) {
		if err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
		if l.Delivery.ID == id {
			found = &l.DeadLetter
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrUnknownID)
	}
	return StoryOf(found), nil
}

// Owed implements [Desk].
func (b *Backlog) Owed(ctx context.Context, f Filter) iter.Seq2[Owed, error] {
	return func(yield func(Owed, error) bool) {
		if err := b.begin(ctx, &f); err != nil {
			yield(Owed{}, err)
			return
		}
		var from checkpoint.Ref
		var page []Owed
		for {
			page = page[:0]
			next, more, err := b.owedPage(ctx, &f, from, &page)
			if !yieldAll(page, err, yield) || !more {
				return
			}
			from = next
		}
	}
}

// owedPage is letterPage for owed deliveries.
func (b *Backlog) owedPage(ctx context.Context, f *Filter, from checkpoint.Ref, page *[]Owed) (next checkpoint.Ref, more bool, err error) {
	bytes := 0
	names, err := b.lanes(ctx)
	if err != nil {
		return next, false, err
	}
	for a, err := range b.cfg.Store.Deliveries(ctx, b.cfg.Shard, from) {
		if err != nil {
			return next, false, fmt.Errorf("read what is owed: %w", err)
		}
		if len(*page) == pageItems || bytes > pageBytes {
			return refOf(&a), true, nil
		}
		if names.today(&a); !a.Delivery.Retry.Stage.Marker() && f.owed(a.Delivery) {
			v := owedOf(a.Delivery)
			bytes += len(v.Key) + len(v.KeyBase64) + len(v.Error)
			*page = append(*page, v)
		}
	}
	return next, false, nil
}

// lanes are the lanes that the shard has, by number.
type lanes map[uint32]checkpoint.Lane

func lanesOf(state *checkpoint.State) lanes {
	all := make(lanes, len(state.Lanes))
	for _, l := range state.Lanes {
		all[l.Number] = l
	}
	return all
}

func (b *Backlog) lanes(ctx context.Context) (lanes, error) {
	state, err := b.cfg.Store.Load(ctx, b.cfg.Shard)
	if err != nil {
		return nil, fmt.Errorf("load the checkpoint: %w", err)
	}
	return lanesOf(state), nil
}

// today gives a delivery the names that its rule and its sink have now.
func (ls lanes) today(a *checkpoint.Admission) {
	if l, ok := ls[a.Lane]; ok {
		a.Delivery.Rule, a.Delivery.Send, a.Delivery.Sink = l.Rule, l.Send, l.Sink
	}
}

// Sinks implements [Desk].
func (b *Backlog) Sinks(context.Context) ([]Sink, error) {
	status := b.cfg.Dispatcher.Status()
	all := make([]Sink, 0, len(status.Sinks))
	for i := range status.Sinks {
		all = append(all, sinkOf(&status.Sinks[i], b.cfg.Live))
	}
	return all, nil
}

// Pause implements [Desk].
func (b *Backlog) Pause(ctx context.Context, sink string) error {
	return b.cfg.Dispatcher.Pause(ctx, sink)
}

// Resume implements [Desk].
func (b *Backlog) Resume(ctx context.Context, sink string) error {
	return b.cfg.Dispatcher.Resume(ctx, sink)
}

// defined returns the names of the sinks that something can be sent to, nil
// where that is not known.
func (b *Backlog) defined() map[string]bool {
	if !b.cfg.Live {
		return nil
	}
	names := make(map[string]bool)
	for _, s := range b.cfg.Dispatcher.Status().Sinks {
		if s.Configured {
			names[s.Name] = true
		}
	}
	return names
}

// groups counts what was matched by its names.
type groups map[Group]int

func (g groups) add(d *keyhook.Delivery, reason keyhook.Reason) {
	g[Group{Rule: d.Rule, Send: d.Send, Sink: d.Sink, Reason: reason}]++
}

// list returns the groups, the largest first.
func (g groups) list() []Group {
	all := make([]Group, 0, len(g))
	for group, n := range g {
		group.Count = n
		all = append(all, group)
	}
	slices.SortFunc(all, CompareGroups)
	return all
}
