package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// seed begins the range if it never did, and completes its listing, from where
// it stands. It returns nil when all that is durable.
func (r *runner) seed(ctx context.Context) error {
	if r.begun && r.state.Seed == nil {
		return nil
	}
	if r.begun {
		if _, err := r.check(ctx, r.state.Position, r.state.Anchor); err != nil {
			return err
		}
	}
	for {
		if !r.begun {
			if err := r.begin(ctx); err != nil {
				return err
			}
		}
		err := r.list(ctx)
		switch {
		case errors.Is(err, errCompacted):
			if err := r.turnOver(ctx); err != nil {
				return err
			}
			if r.begun {
				return nil
			}
		case err != nil:
			return err
		default:
			return r.flush(ctx)
		}
	}
}

// begin makes the start of the range durable.
func (r *runner) begin(ctx context.Context) error {
	st, err := r.origin(ctx)
	if err != nil {
		return err
	}
	id, _ := r.identity.get()
	if st.Epoch = id.Epoch; st.Seed != nil && st.Seed.Revision == st.Position.Next {
		r.unlisted = st.Position.Next
	}
	if err := r.hand(ctx, &Batch{States: []checkpoint.RangeState{st}}, st); err != nil {
		return err
	}
	r.begun = true
	r.cfg.Logger.Info("a range begins", "range", r.rng.String(), "start", r.cfg.Start.String(), "position", st.Position.String())
	return r.flush(ctx)
}

// origin decides where the range begins.
func (r *runner) origin(ctx context.Context) (checkpoint.RangeState, error) {
	h, err := r.etcd.head(ctx, r.rng)
	if err != nil {
		return checkpoint.RangeState{}, err
	}
	if err := r.sameCluster(h); err != nil {
		return checkpoint.RangeState{}, err
	}
	switch start := r.cfg.Start; start.kind {
	case startEarliest, startRevision:
		compacted, err := r.compactedRevision(ctx, r.rng)
		if err != nil {
			return checkpoint.RangeState{}, err
		}
		r.seen.sawCompacted(compacted)
		if start.kind == startEarliest {
			return startState(r.rng, max(compacted+1, 1), compacted, false), nil
		}
		return startAt(r.rng, start.revision, compacted, h.revision)
	default:
		return startState(r.rng, h.revision+1, h.revision, start.kind == startSnapshot), nil
	}
}

// startState returns the state of a range that begins at revision next, with the
// mirror as it is at revision listed; nothing is to be listed before the first.
func startState(rng keyhook.Range, next, listed int64, emit bool) checkpoint.RangeState {
	st := checkpoint.RangeState{Range: rng, Position: keyhook.Position{Next: next}}
	if listed > 0 {
		st.Seed = &checkpoint.Seed{Revision: listed, Cursor: rng.Start, Emit: emit}
	}
	return st
}

// startAt begins at a revision that was asked for. The revision before it is
// listed; if just that one is compacted, the revision itself, without the keys
// that it changed.
func startAt(rng keyhook.Range, rev, compacted, current int64) (checkpoint.RangeState, error) {
	switch {
	case rev > current+1:
		return checkpoint.RangeState{}, &Error{
			Kind: StartAhead, Range: rng, Err: fmt.Errorf("etcd.start is revision %d, but etcd is at revision %d only", rev, current),
			Hint: "the range begins when etcd gets there; if that is not meant, check etcd.start and etcd.endpoints",
		}
	case rev < compacted:
		return checkpoint.RangeState{}, &Error{
			Kind: BadStart, Range: rng, Err: fmt.Errorf("etcd.start is revision %d, but etcd has compacted its history up to revision %d", rev, compacted),
			Hint: "set etcd.start to earliest, or to a later revision",
		}
	}
	return startState(rng, rev, max(rev-1, compacted), false), nil
}

// turnOver goes on with a listing whose revision was compacted. What began now or
// with a snapshot is owed all changes since then: they are found by comparing. What
// was to begin with the earliest change that etcd has begins anew.
func (r *runner) turnOver(ctx context.Context) error {
	seed := r.state.Seed
	g := &gapError{reason: keyhook.GapCompacted, err: fmt.Errorf("etcd was compacted while the range was being listed at revision %d", seed.Revision)}
	r.gapNoticed(ctx, g)
	if kind := r.cfg.Start.kind; kind != startNow && kind != startSnapshot {
		return r.beginAgain(ctx)
	}
	st := r.state
	st.Seed = nil
	st.Repair = &checkpoint.Repair{
		Reason: g.reason, From: st.Position.Next, At: time.Now().UTC(), Cursor: r.rng.Start, Whole: true, Fill: true, Emit: seed.Emit,
	}
	if err := r.hand(ctx, &Batch{States: []checkpoint.RangeState{st}}, st); err != nil {
		return err
	}
	return r.flush(ctx)
}

// beginAgain forgets a range that was not watched yet.
func (r *runner) beginAgain(ctx context.Context) error {
	// The mirror must be empty when the next listing begins: keys may have been
	// deleted meanwhile. So the end of this one is a commit of its own.
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.hand(ctx, &Batch{Drop: []keyhook.Range{r.rng}}, checkpoint.RangeState{}); err != nil {
		return err
	}
	r.begun = false
	r.overlay.forget(r.rng)
	return r.flush(ctx)
}

// list reads the range page by page, up to its end.
func (r *runner) list(ctx context.Context) error {
	size := pageSize{limit: firstPage, maxKeys: r.cfg.PageKeys, target: r.cfg.PageBytes}
	size.limit = min(size.limit, size.maxKeys)
	for r.state.Seed != nil {
		seed := r.state.Seed
		rest := keyhook.Range{Start: seed.Cursor, End: r.rng.End}
		p, err := r.etcd.page(ctx, rest, seed.Revision, size.limit, pageSlack*size.target, false)
		if errors.Is(err, errTooLarge) {
			size.tooLarge()
			continue
		}
		if err != nil {
			return err
		}
		size.received(p.kvs)
		if err := r.handPage(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// handPage admits a page; if its keys are changes, in batches as small as those
// of a watch.
func (r *runner) handPage(ctx context.Context, p page) error {
	emit, now := r.state.Seed.Emit, time.Now()
	for rest := p.kvs; ; {
		n := len(rest)
		if emit {
			n = cut(rest, r.cfg.BatchEvents, r.cfg.BatchBytes)
		}
		st := r.state
		// One that was lost when the range was divided is found at the end.
		if st.Anchor != nil || bytes.Equal(st.Seed.Cursor, r.rng.Start) {
			st.Anchor = newestOf(st.Anchor, rest[:n], st.Position.Next)
		}
		if last := n == len(rest); last && !p.more {
			st.Seed = nil
		} else {
			seed := *st.Seed
			seed.Cursor = append(bytes.Clone(rest[n-1].GetKey()), 0)
			st.Seed = &seed
		}
		b := &Batch{States: []checkpoint.RangeState{st}}
		b.Events, b.Mirror = listed(rest[:n], st.Position.Next, emit, now)
		if err := r.hand(ctx, b, st); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			return nil
		}
	}
}

// cut returns how many of kvs fit into a batch; at least one, if there is one.
func cut(kvs []*mvccpb.KeyValue, maxEvents, maxBytes int) int {
	n, bytes := 0, 0
	for n < len(kvs) && n < maxEvents && bytes < maxBytes {
		bytes += keyValueSize(kvs[n])
		n++
	}
	return n
}

const (
	firstPage = 64 // keys, before anything is known about their sizes
	pageSlack = 4  // a page that is this many times too large is not received
)

// pageSize adapts the number of keys in a page to their sizes. Small pages are
// costly, because etcd counts the rest of the range for each.
type pageSize struct {
	limit   int
	maxKeys int
	target  int // bytes
}

func (s *pageSize) received(kvs []*mvccpb.KeyValue) {
	if len(kvs) == 0 {
		return
	}
	bytes := 0
	for _, kv := range kvs {
		bytes += keyValueSize(kv)
	}
	fitting := s.target / max(bytes/len(kvs), 1)
	s.limit = min(max(fitting, 1), 8*s.limit, s.maxKeys)
}

func (s *pageSize) tooLarge() { s.limit = max(s.limit/8, 1) }

func keyValueSize(kv *mvccpb.KeyValue) int {
	return len(kv.GetKey()) + len(kv.GetValue()) + 64
}

// compactedRevision returns the revision up to which etcd is compacted; 0 if it
// is not. etcd tells it only to a watch that begins too early; a member that lags
// may serve that instead, and never tell.
func (s *shared) compactedRevision(ctx context.Context, rng keyhook.Range) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	_, err := s.etcd.page(ctx, rng, 1, 1, 0, true) // revision 1 holds no keys
	if !errors.Is(err, errCompacted) {
		return 0, err
	}
	w, err := s.etcd.watch(ctx, rng, 1, false)
	if err != nil {
		return 0, err
	}
	for {
		resp, err := w.recv()
		switch {
		case err != nil:
			return 0, err
		case resp.GetCompactRevision() > 0:
			return resp.GetCompactRevision(), nil
		case resp.GetCanceled():
			return 0, canceledError(resp)
		}
	}
}
