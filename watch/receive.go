package watch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

var (
	errFull   = errors.New("the queue is full")
	errSilent = errors.New("the watch is silent, progress is not answered")
	errLags   = errors.New("the member that serves the watch lags behind the others")
)

// receive fills the queue, from one stream after the other, until ctx ends. It
// never waits for the consumer while a stream is open.
func (r *runner) receive(ctx context.Context, q *queue, rd *reader) error {
	bo := r.newBackoff()
	for {
		err := r.session(ctx, q, rd, bo.Reset)
		if behind, ok := errors.AsType[*behindError](err); ok {
			err = r.catchUp(ctx, q, rd, behind)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errFull):
			r.cfg.Logger.Debug("the watch of a range pauses until there is room", "range", r.rng.String(), "position", rd.pos.String())
			err = q.waitHalf(ctx)
		case errors.Is(err, errTooLarge) && !rd.fragments:
			r.cfg.Logger.Info("etcd is asked for fragments: a response was too large to be received whole", "range", r.rng.String(), "position", rd.pos.String())
			rd.fragments, err = true, nil
		default:
			if gap := r.gapOf(err, false); gap != nil {
				return gap
			}
			err = r.pause(ctx, err, bo)
		}
		if err != nil {
			return err
		}
	}
}

// session watches from the reader's position until something ends that. alive is
// called when the stream proves to work.
func (r *runner) session(ctx context.Context, q *queue, rd *reader, alive func()) error {
	head, err := r.check(ctx, rd.pos, rd.anchor)
	if err != nil {
		return err
	}
	if err := r.quiet(ctx, rd.pos, rd.anchor); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := r.etcd.watch(ctx, r.rng, rd.pos.Next, rd.fragments)
	if err != nil {
		return err
	}
	rd.restart()
	h := r.hearing(ctx, cancel, s, rd.pos.Next)
	err = r.drain(ctx, s, q, rd, head, func(moved bool) { h.heard(rd.pos.Revision(), moved); alive() })
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) || errors.Is(cause, errLags) {
		err = cause
	}
	cancel(nil)
	h.wait()
	return err
}

// drain queues responses until the stream ends or the queue is full. heard is told
// of each, and whether it moved the position; etcd was at revision head before.
func (r *runner) drain(ctx context.Context, s stream, q *queue, rd *reader, head int64, heard func(moved bool)) error {
	established := false
	for {
		resp, err := s.recv()
		if err != nil {
			return err
		}
		switch {
		case resp.GetCompactRevision() > 0:
			r.seen.sawCompacted(resp.GetCompactRevision())
			return compactedError(r.rng, rd.pos, resp.GetCompactRevision())
		case resp.GetCanceled():
			return canceledError(resp)
		case resp.GetCreated():
			gone, err := r.gone(ctx, rd.pos, max(head, resp.GetHeader().GetRevision()))
			if err != nil {
				return err
			}
			if !gone {
				r.established(rd.pos)
				established = true
			}
			continue
		}
		if !established { // it was compacted when it had been read
			r.established(rd.pos)
			established = true
		}
		r.seen.sawRevision(resp.GetHeader().GetRevision())
		before := rd.pos
		it := rd.take(resp, time.Now())
		heard(it.end != before)
		if it.duplicates > 0 {
			r.cfg.Observer.Duplicates(r.rng, it.duplicates)
			r.cfg.Logger.Warn("etcd sent changes again, they are dropped", "range", r.rng.String(), "changes", it.duplicates, "position", before.String())
		}
		if it.end == before {
			continue
		}
		if q.push(it) {
			return errFull
		}
		if err := r.lag(rd, resp, before, it.bytes); err != nil {
			return err
		}
	}
}

func canceledError(resp *etcdserverpb.WatchResponse) error {
	if reason := resp.GetCancelReason(); reason != "" {
		if _, desc, ok := strings.Cut(reason, " desc = "); ok { // a status, written out
			reason = desc
		}
		return errors.New(reason)
	}
	return errors.New("etcd cancelled the watch")
}

// hearing asks an idle stream for progress. It ends one that stays silent, and one
// whose member lags: that answers, but has not heard itself of what the others
// have committed.
type hearing struct {
	last  atomic.Int64 // when something was heard, since epoch
	moved atomic.Int64 // when the position was moved, since epoch
	told  atomic.Int64 // the revision up to which everything was told
	wg    sync.WaitGroup
}

var epoch = time.Now()

// since returns how long ago a time since epoch was.
func since(at *atomic.Int64) time.Duration { return time.Since(epoch) - time.Duration(at.Load()) }

// begin is the revision that the stream begins at.
func (r *runner) hearing(ctx context.Context, cancel context.CancelCauseFunc, s stream, begin int64) *hearing {
	h := new(hearing)
	h.heard(begin-1, true)
	h.wg.Go(func() { r.askForProgress(ctx, cancel, s, h, begin) })
	h.wg.Go(func() { r.compareProgress(ctx, cancel, h) })
	return h
}

// askForProgress ends the stream when it is silent.
func (r *runner) askForProgress(ctx context.Context, cancel context.CancelCauseFunc, s stream, h *hearing, begin int64) {
	ticker := time.NewTicker(r.cfg.ProgressInterval)
	defer ticker.Stop()
	asked := false // since it was heard last: this process may have slept meanwhile
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		silent := since(&h.last)
		if silent >= r.cfg.ProgressDeadline && asked {
			if !r.idle(ctx, begin) {
				cancel(errSilent)
				return
			}
			h.last.Store(int64(time.Since(epoch)))
			asked = false
			continue
		}
		if silent < r.cfg.ProgressInterval/2 {
			asked = false
			continue
		}
		asked = true
		if err := s.requestProgress(); err != nil {
			return // the receiver learns why
		}
	}
}

// compareProgress ends the stream when nothing was told for long, although etcd
// was ahead long ago.
func (r *runner) compareProgress(ctx context.Context, cancel context.CancelCauseFunc, h *hearing) {
	ticker := time.NewTicker(r.cfg.ProgressDeadline)
	defer ticker.Stop()
	for ahead := int64(0); ; { // etcd's revision at the last look
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if since(&h.moved) < r.cfg.ProgressDeadline {
			continue
		}
		if ahead > h.told.Load() {
			cancel(errLags)
			return
		}
		ahead = r.look(ctx)
	}
}

// look returns the revision that etcd is at; 0 if that cannot be learnt.
func (r *runner) look(ctx context.Context) int64 {
	h, err := r.etcd.head(ctx, r.rng)
	if err != nil || r.sameCluster(h) != nil {
		return 0
	}
	return h.revision
}

// idle reports whether nothing has been written to etcd since before a stream
// that begins at revision begin: there is nothing that it could have sent, and
// etcd answers no request for progress before that revision.
func (r *runner) idle(ctx context.Context, begin int64) bool {
	rev := r.look(ctx)
	if rev != begin-1 {
		return false
	}
	r.cfg.Logger.Debug("the watch is silent because nothing is written to etcd", "range", r.rng.String(), "revision", rev)
	return true
}

// heard takes down that a response has come.
func (h *hearing) heard(told int64, moved bool) {
	now := int64(time.Since(epoch))
	h.last.Store(now)
	if moved {
		h.told.Store(told)
		h.moved.Store(now)
	}
}

func (h *hearing) wait() { h.wg.Wait() }
