package watch

import (
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"keyhook"
	"keyhook/checkpoint"
)

// reader decides what the responses of a watch mean for the position. It is fed
// with the responses of one stream after the other; each stream begins at the
// revision pos.Next.
//
// Two facts of etcd carry it: a revision is never divided between responses,
// though a response may arrive in fragments, and the revision in the header of a
// response with events says nothing about which events were sent.
type reader struct {
	pos    keyhook.Position // of what was taken
	anchor *checkpoint.Anchor

	rev   int64 // the revision whose events are being counted; 0 at the beginning of a stream
	count int   // of its events so far, with those that were skipped
	keys  occurrences
	last  *mvccpb.Event // of rev
	open  bool          // in the middle of a fragmented response

	// fragments is whether the next stream is to come in fragments: a response
	// was too large, and the reader has not caught up since.
	fragments bool
}

// change is an event with its place in its revision.
type change struct {
	ev         *mvccpb.Event
	occurrence int // among the events of its key in the revision
	index      int // among the events of the range in the revision
}

// item is what one response brought.
type item struct {
	changes    []change
	before     *checkpoint.Anchor // of the first change: of the revision before it
	end        keyhook.Position   // behind it
	anchor     *checkpoint.Anchor // of the end
	received   time.Time
	bytes      int
	duplicates int // events that were dropped because they lie before the position
}

// behind returns the position after the i-th change.
func (it *item) behind(i int) keyhook.Position {
	if i+1 == len(it.changes) {
		return it.end
	}
	rev := it.changes[i].ev.GetKv().GetModRevision()
	if it.changes[i+1].ev.GetKv().GetModRevision() > rev {
		return keyhook.After(rev)
	}
	return keyhook.Position{Next: rev, Admitted: it.changes[i].index + 1}
}

// restart forgets what was counted: a new stream begins, at pos.Next.
func (rd *reader) restart() {
	rd.rev, rd.count, rd.last, rd.open = 0, 0, nil, false
	rd.keys = occurrences{}
}

// take reads a response. The item is empty and its end the old position if the
// response brought nothing.
func (rd *reader) take(resp *etcdserverpb.WatchResponse, now time.Time) item {
	it := item{received: now, bytes: itemOverhead}
	for _, ev := range resp.GetEvents() {
		rev := ev.GetKv().GetModRevision()
		if rev < rd.pos.Next {
			it.duplicates++
			continue
		}
		if rev != rd.rev {
			rd.enter(rev)
		}
		c := change{ev: ev, occurrence: rd.keys.next(ev.GetKv().GetKey()), index: rd.count}
		rd.count++
		rd.last = ev
		if c.index < rd.pos.Admitted {
			continue // admitted before the stream began
		}
		if len(it.changes) == 0 {
			it.before = rd.anchor
		}
		rd.pos.Admitted = rd.count
		it.changes = append(it.changes, c)
		it.bytes += eventSize(ev)
	}
	switch {
	case len(resp.GetEvents()) > 0:
		rd.open = resp.GetFragment()
		if !rd.open {
			rd.leave()
			if rd.pos.Revision() >= resp.GetHeader().GetRevision() {
				rd.fragments = false // caught up
			}
		}
	case isProgress(resp) && !rd.open:
		rd.progress(resp.GetHeader().GetRevision())
	}
	it.end, it.anchor = rd.pos, rd.anchor
	return it
}

// enter begins to count the events of a revision.
func (rd *reader) enter(rev int64) {
	rd.leave()
	rd.rev, rd.count, rd.keys = rev, 0, occurrences{}
	if rev > rd.pos.Next {
		rd.pos = keyhook.Position{Next: rev}
	}
}

// leave completes the revision that was counted, if it was not complete already.
func (rd *reader) leave() {
	if rd.last == nil || rd.rev < rd.pos.Next {
		return
	}
	rd.pos = keyhook.After(rd.rev)
	rd.anchor = anchorAfter(rd.anchor, rd.last)
	rd.last = nil
}

// progress: everything up to rev was sent before.
func (rd *reader) progress(rev int64) {
	if after := keyhook.After(rev); after.Compare(rd.pos) > 0 {
		rd.pos = after
	}
}

// isProgress is clientv3's WatchResponse.IsProgressNotify.
func isProgress(resp *etcdserverpb.WatchResponse) bool {
	return len(resp.GetEvents()) == 0 && !resp.GetCanceled() && !resp.GetCreated() &&
		resp.GetCompactRevision() == 0 && resp.GetHeader().GetRevision() != 0
}

func typeOf(ev *mvccpb.Event) keyhook.EventType {
	if ev.GetType() == mvccpb.Event_DELETE {
		return keyhook.Delete
	}
	return keyhook.Put
}

// What the structures that hold a response and an event take, near enough.
const (
	itemOverhead  = 150
	eventOverhead = 300
)

func eventSize(ev *mvccpb.Event) int {
	return len(ev.GetKv().GetKey()) + len(ev.GetKv().GetValue()) + eventOverhead
}

// occurrences counts the events of each key within one revision. Keys are told
// apart by a hash: two of one hash get distinct occurrences, the same ones each
// time the revision is read, which is all that is asked of an identity. Most
// revisions have one event and need no map.
type occurrences struct {
	first []byte
	begun bool
	more  map[uint64]int
}

func (o *occurrences) next(key []byte) int {
	if !o.begun {
		o.first, o.begun = key, true
		return 0
	}
	if o.more == nil {
		o.more = map[uint64]int{xxhash.Sum64(o.first): 1}
	}
	h := xxhash.Sum64(key)
	n := o.more[h]
	o.more[h] = n + 1
	return n
}
