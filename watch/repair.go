package watch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// How a gap is repaired. The range is compared with what the mirror knows of it,
// at one revision S, part by part in key order:
//
//	gap durable ─▶ S chosen ─▶ part compared ─▶ differences admitted ─▶ position S
//	                  ▲            │    ▲        (events, mirror and           │
//	                  └─compacted──┘    └─cursor, in one commit)               ▼
//	                                                                  watch from S+1
//
// A crash goes on at the cursor. If S is compacted meanwhile, another one is
// chosen and the comparison begins anew: it finds only what is left, because the
// mirror has changed with what was told. A key that was written before the gap,
// but not as it was read then, shows that history was rolled back, too.

// repair completes the repair of the range, if there is one. It returns nil when
// everything is durable.
func (r *runner) repair(ctx context.Context) error {
	for tries := 0; r.state.Repair != nil; tries++ {
		// The comparison reads the mirror as it is durable.
		if err := r.flush(ctx); err != nil {
			return err
		}
		err := r.pass(ctx, tries)
		switch {
		case errors.Is(err, errCompacted):
			if err := r.aimAgain(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			return r.flush(ctx)
		}
	}
	return nil
}

// aimAgain gives up a revision that was compacted. A position that was still to
// be read from is lost with it.
func (r *runner) aimAgain(ctx context.Context) error {
	st := r.state
	rep := *st.Repair
	r.cfg.Logger.WarnContext(ctx, "etcd was compacted while a range was compared with it, which begins again",
		"range", r.rng.String(), "revision", rep.Revision)
	rep.Revision, rep.Cursor, rep.Resume, rep.Suspicion = 0, r.rng.Start, false, false
	st.Repair = &rep
	return r.hand(ctx, &Batch{States: []checkpoint.RangeState{st}}, st)
}

// aim chooses the revision to compare with.
func (r *runner) aim(ctx context.Context) error {
	h, err := r.etcd.head(ctx, r.rng)
	if err != nil {
		return err
	}
	if err := r.sameCluster(h); err != nil {
		return err
	}
	st := r.state
	rep := *st.Repair
	switch {
	case !rep.Whole && h.revision < st.Position.Revision(), h.revision < rep.Revision, rep.Resume && h.revision < st.Position.Revision():
		return r.behind(h, max(rep.Revision, st.Position.Revision()))
	case rep.Revision > 0:
		return nil // goes on
	case rep.Resume:
		rep.Revision = max(st.Position.Revision(), 1) // 0 would be the newest
	default:
		rep.Revision = h.revision
	}
	st.Repair = &rep
	r.state = st // durable with the first part
	return nil
}

// widest bounds the keys that a pass compares at once, when smaller parts were
// too slow for etcd's compactions.
const widest = 1 << 20

// pass compares from where the repair stands. errCompacted: its revision is gone.
func (r *runner) pass(ctx context.Context, tries int) error {
	if err := r.aim(ctx); err != nil {
		return err
	}
	began := time.Now()
	keys := r.cfg.PageKeys
	for range min(tries, 10) {
		keys = min(8*keys, max(widest, keys))
	}
	c := &comparison{
		etcd: r.etcd, rng: r.rng, rev: r.state.Repair.Revision, whole: r.state.Repair.Whole,
		size: pageSize{limit: 2 * keys, maxKeys: 2 * keys, target: r.cfg.PageBytes},
	}
	c.source = func(ctx context.Context, cursor []byte) (*part, error) {
		p, err := mirrored(ctx, r.cfg.Mirror, r.cfg.Shard, keyhook.Range{Start: cursor, End: r.rng.End}, keys)
		if err != nil {
			err = mirrorFailed(r.rng, err)
		}
		return p, err
	}
	if c.whole {
		c.size.limit = min(firstPage, keys)
	} else {
		c.size.target = math.MaxInt32 / pageSlack // keys alone are small, and one page of many is cheap
	}
	for cursor := r.state.Repair.Cursor; ; {
		found, to, err := c.next(ctx, cursor)
		if err != nil {
			return err
		}
		gap, err := r.tell(ctx, found, to)
		if err != nil {
			return err
		}
		if to == nil {
			r.repaired(ctx, gap, time.Since(began))
			return nil
		}
		cursor = to
	}
}

// tell admits the differences of one part, which ends before the key to, or at
// the end of the range if that is nil: then it returns the gap, nil if it turned
// out to be none.
func (r *runner) tell(ctx context.Context, found []difference, to []byte) (*keyhook.Gap, error) {
	rep := r.state.Repair
	for i := range found {
		if !rep.Whole && found[i].contradicts(rep.From) {
			return nil, rolledBackError(r.rng, fmt.Errorf("etcd's history is another one: the key %q was last written at revision %d, but not as it was read then",
				found[i].key(), found[i].kv.GetModRevision()))
		}
	}
	f := &fetcher{runner: r, rest: found, whole: rep.Whole, size: pageSize{limit: 16, maxKeys: maxTxnOps, target: r.cfg.PageBytes}}
	b := r.newTelling()
	for {
		some, err := f.next(ctx)
		if err != nil {
			return nil, err
		}
		for i := range some {
			if b.full() {
				if err := r.handTelling(ctx, b); err != nil {
					return nil, err
				}
				b = r.newTelling()
			}
			if err := b.add(ctx, &some[i]); err != nil {
				return nil, err
			}
		}
		if len(some) == 0 {
			break
		}
	}
	if to == nil {
		b.complete()
	} else {
		b.repair.Cursor = to
	}
	return b.batch.Gap, r.handTelling(ctx, b)
}

// telling is a batch of synthetic changes that is being made.
type telling struct {
	r       *runner
	batch   Batch
	state   checkpoint.RangeState
	repair  checkpoint.Repair
	changes []*held
	bytes   int
	now     time.Time
}

func (r *runner) newTelling() *telling {
	return &telling{r: r, state: r.state, repair: *r.state.Repair, now: time.Now()}
}

func (b *telling) full() bool {
	return len(b.batch.Events) >= b.r.cfg.BatchEvents || b.bytes >= b.r.cfg.BatchBytes
}

// add tells of one difference. An error is one of reading the mirror.
func (b *telling) add(ctx context.Context, d *difference) error {
	var before *checkpoint.Entry
	if d.known != nil {
		var err error
		if before, err = b.r.lookup(ctx, d.known.key); err != nil {
			return err
		}
		if before != nil && !before.Remembered(b.state.Forgotten) {
			before = nil
		}
	}
	key := d.key()
	ev, after := synthetic(d.kv, key, before, &b.state.Forgotten, b.now)
	silent := b.repair.Fill && !b.repair.Emit && before == nil && ev.Revision < b.repair.From
	switch {
	case silent:
	case ev.Type == keyhook.Delete:
		b.repair.Deleted++
	case before != nil && !before.Deleted:
		b.repair.Changed++
	default:
		b.repair.Created++
	}
	if !silent {
		b.batch.Events = append(b.batch.Events, ev)
	}
	b.batch.Mirror = append(b.batch.Mirror, checkpoint.MirrorChange{Key: key, Entry: after})
	b.changes = append(b.changes, &held{key: string(key), entry: after, place: notDurable})
	b.bytes += ev.Size()
	b.repair.Cursor = append(append(make([]byte, 0, len(key)+1), key...), 0)
	return nil
}

// synthetic returns the change from what the mirror holds of key to what etcd
// holds, kv or nothing, and what the mirror is to hold then.
func synthetic(kv *mvccpb.KeyValue, key []byte, before *checkpoint.Entry, forgotten *uint64, now time.Time) (*keyhook.Event, *checkpoint.Entry) {
	if kv == nil {
		ev := &keyhook.Event{
			Type: keyhook.Delete, Key: key, Revision: before.Revision, Occurrence: keyhook.SyntheticDelete, Time: now, Synthetic: true,
		}
		after, _ := step(ev, before, forgotten)
		return ev, after
	}
	ev := eventOf(change{ev: &mvccpb.Event{Kv: kv}}, now)
	ev.Synthetic = true
	after, _ := step(ev, before, forgotten)
	if ev.Prev != nil && ev.Prev.CreateRevision != ev.CreateRevision {
		ev.Prev = nil // it was deleted and created again
	}
	return ev, after
}

// complete ends the repair: the range can be watched from the revision that it
// was compared at, or from where it stood.
func (b *telling) complete() {
	b.state.Repair = &b.repair
	b.batch.Gap = gapRecord(&b.state)
	b.state.Repair = nil
	if !b.repair.Resume {
		b.state.Position = keyhook.After(b.repair.Revision)
	}
	if !b.repair.Resume || b.batch.Gap != nil {
		b.state.Anchor = nil // the newest change may be another one; it is found in the mirror
	}
}

func (r *runner) handTelling(ctx context.Context, b *telling) error {
	if b.state.Repair != nil {
		b.state.Repair = &b.repair
	}
	b.batch.States = []checkpoint.RangeState{b.state}
	return r.handChanges(ctx, &b.batch, b.state, b.changes)
}

// repaired says what came of a repair.
func (r *runner) repaired(ctx context.Context, g *keyhook.Gap, took time.Duration) {
	r.mu.Lock()
	known := r.gap
	r.gap = false
	if g != nil {
		r.status.Gap = g
	}
	r.mu.Unlock()
	if g == nil {
		r.cfg.Logger.InfoContext(ctx, "a range was compared with etcd, and nothing differs", "range", r.rng.String(), "took", took)
		return
	}
	if !known { // a suspicion that has come true
		r.cfg.Observer.Gap(r.rng, g.Reason)
	}
	r.cfg.Logger.WarnContext(ctx, "a gap is repaired; changes in between that were replaced by later ones are lost",
		"range", r.rng.String(), "reason", string(g.Reason), "from", g.From, "to", g.To, "epoch", g.Epoch,
		"created", g.Created, "changed", g.Changed, "deleted", g.Deleted, "took", took)
}

// maxTxnOps is etcd's default for the operations of a transaction.
const maxTxnOps = 128

// fetcher adds values to differences that were found by keys alone.
type fetcher struct {
	*runner
	rest  []difference
	whole bool // the values are there
	size  pageSize
}

// next returns some of the differences, none at the end.
func (f *fetcher) next(ctx context.Context) ([]difference, error) {
	if f.whole {
		all := f.rest
		f.rest = nil
		return all, nil
	}
	var keys [][]byte
	n := 0
	for ; n < len(f.rest) && len(keys) < f.size.limit; n++ {
		if f.rest[n].kv != nil {
			keys = append(keys, f.rest[n].key())
		}
	}
	if len(keys) > 0 {
		kvs, err := f.etcd.values(ctx, keys, f.state.Repair.Revision, pageSlack*f.size.target)
		if errors.Is(err, errTooLarge) && len(keys) > 1 {
			f.size.tooLarge()
			return f.next(ctx)
		}
		if err != nil {
			return nil, err
		}
		f.size.received(kvs)
		for i := range f.rest[:n] {
			if f.rest[i].kv == nil {
				continue
			}
			if len(kvs) == 0 || string(kvs[0].GetKey()) != string(f.rest[i].key()) {
				return nil, fmt.Errorf("etcd lists the key %q at revision %d, but does not hold it then", f.rest[i].key(), f.state.Repair.Revision)
			}
			f.rest[i].kv, kvs = kvs[0], kvs[1:]
		}
	}
	some := f.rest[:n]
	f.rest = f.rest[n:]
	return some, nil
}
