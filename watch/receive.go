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
	if err := r.check(ctx, rd.pos, rd.anchor); err != nil {
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
	err = r.drain(ctx, s, q, rd, func() { h.heard(); alive() })
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		err = cause
	}
	cancel(nil)
	h.wait()
	return err
}

// drain queues responses until the stream ends or the queue is full.
func (r *runner) drain(ctx context.Context, s stream, q *queue, rd *reader, heard func()) error {
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
			gone, err := r.gone(ctx, rd.pos, resp.GetHeader().GetRevision())
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
		heard()
		r.seen.sawRevision(resp.GetHeader().GetRevision())
		before := rd.pos
		it := rd.take(resp, time.Now())
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

// hearing asks an idle stream for progress, and ends one that stays silent.
type hearing struct {
	last atomic.Int64 // since epoch
	wg   sync.WaitGroup
}

var epoch = time.Now()

// begin is the revision that the stream begins at.
func (r *runner) hearing(ctx context.Context, cancel context.CancelCauseFunc, s stream, begin int64) *hearing {
	h := new(hearing)
	h.heard()
	h.wg.Go(func() {
		ticker := time.NewTicker(r.cfg.ProgressInterval)
		defer ticker.Stop()
		asked := false // since it was heard last: this process may have slept meanwhile
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			silent := time.Since(epoch) - time.Duration(h.last.Load())
			if silent >= r.cfg.ProgressDeadline && asked {
				if !r.idle(ctx, begin) {
					cancel(errSilent)
					return
				}
				h.heard()
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
	})
	return h
}

// idle reports whether nothing has been written to etcd since before a stream
// that begins at revision begin: there is nothing that it could have sent, and
// etcd answers no request for progress before that revision.
func (r *runner) idle(ctx context.Context, begin int64) bool {
	h, err := r.etcd.head(ctx, r.rng)
	if err != nil || r.sameCluster(h) != nil || h.revision != begin-1 {
		return false
	}
	r.cfg.Logger.Debug("the watch is silent because nothing is written to etcd", "range", r.rng.String(), "revision", h.revision)
	return true
}

func (h *hearing) heard() { h.last.Store(int64(time.Since(epoch))) }
func (h *hearing) wait()  { h.wg.Wait() }
