package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
)

// An audit compares what is known of a range with what etcd holds, while the range
// is watched: it finds changes that were lost without a trace, and a history that
// agrees with the old one in all that was looked at. What is known is captured
// part by part between two batches, with the position that it belongs to; etcd is
// asked for the same part at the same revision. So each part is compared exactly,
// whatever changes meanwhile.

// AuditReport is what an audit of one range has found.
type AuditReport struct {
	Range keyhook.Range
	At    time.Time // when it ended
	Keys  int       // compared
	// Differing counts the keys that differ; the first of them are in Differences.
	Differing   int
	Differences []AuditDifference
	// Partial: what is known is of a revision that etcd has compacted, so that keys
	// which changed since, or are gone, could not be judged.
	Partial bool
	// Repaired: what differs is told as synthetic changes, or was: the range was
	// halted, and goes on.
	Repaired bool
	// Err is why the range could not be compared to its end; nil if it was.
	Err error
}

// AuditDifference is a key of which something else is known than etcd holds. It
// has no values.
type AuditDifference struct {
	Key      []byte
	Known    int64 // the revision that last wrote the key, as far as is known; 0: it is not there
	Held     int64 // the revision that last wrote the key in etcd; 0: it is not there
	Revision int64 // at which the two were compared
}

// maxDifferences bounds those that a report names.
const maxDifferences = 100

func (a *AuditReport) add(found []difference, rev int64) {
	a.Differing += len(found)
	for _, d := range found[:min(len(found), maxDifferences-len(a.Differences))] {
		one := AuditDifference{Key: d.key(), Revision: rev}
		if d.live() {
			one.Known = d.known.mod
		}
		if d.kv != nil {
			one.Held = d.kv.GetModRevision()
		}
		a.Differences = append(a.Differences, one)
	}
}

// auditJob is an audit that somebody waits for.
type auditJob struct {
	repair   bool
	progress func(keys int)
	report   chan *AuditReport // of capacity 1
}

// Audit compares all ranges with etcd, one after the other, and returns a report
// of each. It goes as fast as etcd answers. With repair set, what differs is told
// as synthetic changes, as a gap is, and halted ranges go on. progress is told how
// many keys were compared so far; it may be nil.
func (w *Watcher) Audit(ctx context.Context, repair bool, progress func(keys int)) ([]*AuditReport, error) {
	w.mu.Lock()
	running := slices.Clone(w.running)
	w.mu.Unlock()
	slices.SortFunc(running, func(a, b *runner) int { return strings.Compare(string(a.rng.Start), string(b.rng.Start)) })
	var reports []*AuditReport
	keys := 0
	for _, r := range running {
		if repair && r.resume() {
			reports = append(reports, &AuditReport{Range: r.rng, At: time.Now(), Repaired: true})
			continue
		}
		report, err := r.audit(ctx, repair, func(n int) {
			if progress != nil {
				progress(keys + n)
			}
		})
		if err != nil {
			return reports, err
		}
		keys += report.Keys
		reports = append(reports, report)
	}
	return reports, nil
}

// unwatched is how long an audit waits for a range that is not being watched.
const unwatched = 5 * time.Second

// audit has the range compared. An error is the context's.
func (r *runner) audit(ctx context.Context, repair bool, progress func(keys int)) (*AuditReport, error) {
	job := &auditJob{repair: repair, progress: progress, report: make(chan *AuditReport, 1)}
	patience := time.NewTimer(unwatched)
	defer patience.Stop()
	select {
	case r.audits <- job:
	case <-patience.C:
		st := r.snapshot()
		err := errors.New("the range is not being watched at the moment")
		if st.Err != nil {
			err = fmt.Errorf("%w: %w", err, st.Err.Err)
		}
		return &AuditReport{Range: r.rng, At: time.Now(), Err: err}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case report := <-job.report:
		return report, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// auditing audits the range when somebody asks for it, and by itself, slowly. It
// returns when ctx ends, or a gap that is to be repaired.
func (r *runner) auditing(ctx context.Context) error {
	soon := r.cfg.AuditInterval / 6
	due := time.NewTimer(soon)
	defer due.Stop()
	var last time.Time
	for elected := r.seen.elected(); ; {
		var job *auditJob
		select {
		case <-ctx.Done():
			return nil
		case job = <-r.audits:
		case <-due.C:
		case <-elected:
			// A restore is one, too. Nothing of it may show but in values.
			elected = r.seen.elected()
			due.Reset(max(soon-time.Since(last), 0))
			continue
		}
		report := r.compareAll(ctx, job)
		if job == nil {
			due.Reset(r.cfg.AuditInterval)
			last = time.Now()
		}
		gap := r.audited(ctx, report, job)
		if job != nil {
			job.report <- report
		}
		if gap != nil {
			return gap
		}
	}
}

// audited makes it known what an audit has found, and returns the gap that it
// comes to.
func (r *runner) audited(ctx context.Context, report *AuditReport, job *auditJob) *gapError {
	if ctx.Err() != nil {
		return nil
	}
	r.cfg.Observer.Audited(r.rng, report.Keys, report.Differing)
	r.mu.Lock()
	r.status.Audit = report
	r.mu.Unlock()
	log := r.cfg.Logger.With("range", r.rng.String(), "keys", report.Keys)
	switch {
	case report.Err != nil:
		log.WarnContext(ctx, "an audit could not be completed", "error", report.Err)
	case report.Differing == 0:
		log.InfoContext(ctx, "an audit has found no difference")
	}
	if report.Differing == 0 {
		return nil
	}
	first := report.Differences[0]
	err := fmt.Errorf("an audit has found that %d keys differ from what is known of them, %q for one: last written by revision %d, known of it is revision %d",
		report.Differing, first.Key, first.Held, first.Known)
	report.Repaired = job != nil && job.repair || !r.cfg.HaltOnGap
	if report.Repaired {
		return &gapError{reason: keyhook.GapDiverged, err: err}
	}
	log.ErrorContext(ctx, "an audit has found differences: changes were lost, or etcd's history is another one", "error", err, "hint", acceptIt)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.LastError, r.status.LastErrorAt = err.Error(), time.Now()
	return nil
}

// compareAll compares the whole range, as fast as etcd answers for a job, and
// within Config.AuditRate else.
func (r *runner) compareAll(ctx context.Context, job *auditJob) *AuditReport {
	report := &AuditReport{Range: r.rng}
	c := &comparison{
		etcd: r.etcd, rng: r.rng, whole: true, size: pageSize{limit: firstPage, maxKeys: 2 * auditKeys, target: r.cfg.PageBytes / 4},
	}
	c.source = func(ctx context.Context, cursor []byte) (*part, error) {
		p, err := r.capture(ctx, cursor)
		if err == nil {
			report.Keys += p.live()
			c.rev = max(p.pos.Revision(), 1)
		}
		return p, err
	}
	bo := r.newBackoff()
	for cursor, tries := r.rng.Start, 0; ; {
		began := time.Now()
		before := report.Keys
		found, to, err := c.next(ctx, cursor)
		switch {
		case ctx.Err() != nil:
			report.Err = errors.New("the range is not watched any more")
		case err != nil && tries >= auditTries:
			report.Err = classify(r.rng, r.cfg.Client.Username, err).Err
		case err != nil: // compacted, perhaps: the next capture is newer
			tries++
			if c.read {
				report.Keys, c.read = report.Keys-c.part.live(), false
			}
			wait(ctx, bo.NextBackOff())
			continue
		}
		if report.Err != nil {
			break
		}
		tries = 0
		report.add(found, c.rev)
		if job != nil {
			job.progress(report.Keys)
		}
		if cursor = to; to == nil {
			break
		}
		if job == nil {
			cost := time.Duration(report.Keys-before) * time.Second / time.Duration(r.cfg.AuditRate)
			wait(ctx, cost-time.Since(began))
		}
	}
	report.At = time.Now()
	return report
}

const (
	auditKeys  = 1000 // in a part, at most
	auditTries = 10   // of a part
)

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// captureRequest asks the goroutine that admits for what is known of a part.
type captureRequest struct {
	cursor []byte
	answer chan captured // of capacity 1
}

type captured struct {
	part *part
	err  error
}

// capture returns what is known of the keys from cursor on, at the position that
// the range has then.
func (r *runner) capture(ctx context.Context, cursor []byte) (*part, error) {
	req := &captureRequest{cursor: cursor, answer: make(chan captured, 1)}
	select {
	case r.captures <- req:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case c := <-req.answer:
		return c.part, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer captures a part, in the goroutine that admits, between two batches at the
// end of a revision.
func (r *runner) answer(ctx context.Context, req *captureRequest) {
	rest := keyhook.Range{Start: req.cursor, End: r.rng.End}
	// First what is not durable yet: it may be in the mirror when that is read.
	newer := r.overlay.within(rest)
	p, err := mirrored(ctx, r.cfg.Mirror, r.cfg.Shard, rest, auditKeys)
	if err != nil {
		req.answer <- captured{err: mirrorFailed(r.rng, err)}
		return
	}
	p.pos = r.state.Position
	p.cover(newer)
	req.answer <- captured{part: p}
}

// live counts the keys that are there.
func (p *part) live() (n int) {
	for i := range p.keys {
		if !p.keys[i].deleted {
			n++
		}
	}
	return n
}

// cover lays newer entries over the part.
func (p *part) cover(newer map[string]*checkpoint.Entry) {
	p.keys = slices.DeleteFunc(p.keys, func(k known) bool { _, covered := newer[string(k.key)]; return covered })
	for key, e := range newer {
		if e != nil && (p.last || key < string(p.end)) {
			p.keys = append(p.keys, knownOf(&checkpoint.KeyEntry{Key: []byte(key), Entry: *e}))
		}
	}
	slices.SortFunc(p.keys, func(a, b known) int { return strings.Compare(string(a.key), string(b.key)) })
}

// AuditCheckpoint compares a checkpoint that nobody works on with etcd, at the
// positions of its ranges. Where etcd has compacted those, only keys that were
// written before are judged, as they are now. Errors other than a report's are the
// context's.
func AuditCheckpoint(ctx context.Context, client *clientv3.Client, st *checkpoint.State, mirror checkpoint.Mirror, progress func(keys int)) ([]*AuditReport, error) {
	var reports []*AuditReport
	keys := 0
	for i := range st.Ranges {
		o := &offline{
			etcd: newEtcd(client, defaultTimeout), user: client.Username, mirror: mirror, state: &st.Ranges[i], cluster: st.ClusterID,
			progress: func(n int) { progress(keys + n) },
		}
		report := o.audit(ctx)
		if ctx.Err() != nil {
			return reports, ctx.Err()
		}
		keys += report.Keys
		reports = append(reports, report)
	}
	return reports, nil
}

// offline audits one range of a checkpoint.
type offline struct {
	etcd     history
	user     string
	mirror   checkpoint.Mirror
	state    *checkpoint.RangeState
	cluster  uint64
	progress func(keys int)
}

func (o *offline) audit(ctx context.Context) *AuditReport {
	st := o.state
	report := &AuditReport{Range: st.Range}
	switch {
	case st.Seed != nil || st.Repair != nil:
		report.Err = errors.New("what is known of the range is unfinished; start keyhook to complete it")
	case st.Position.Admitted > 0:
		report.Err = errors.New("the range stands in the middle of a revision; start keyhook to complete it")
	default:
		report.Err = o.compare(ctx, report, max(st.Position.Revision(), 1))
	}
	if errors.Is(report.Err, errCompacted) {
		var h head
		if h, report.Err = o.etcd.head(ctx, st.Range); report.Err == nil {
			*report = AuditReport{Range: st.Range, Partial: true}
			report.Err = o.compare(ctx, report, h.revision)
		}
	}
	if report.Err != nil && ctx.Err() == nil {
		report.Err = classify(st.Range, o.user, report.Err).Err
	}
	report.At = time.Now()
	return report
}

func (o *offline) compare(ctx context.Context, report *AuditReport, rev int64) error {
	h, err := o.etcd.head(ctx, o.state.Range)
	switch {
	case err != nil:
		return err
	case h.cluster != o.cluster:
		return wrongClusterError(o.state.Range, o.cluster, h.cluster)
	case h.revision < rev:
		return fmt.Errorf("etcd is at revision %d only, but changes up to revision %d were read from it before", h.revision, rev)
	}
	c := &comparison{
		etcd: o.etcd, rng: o.state.Range, rev: rev, whole: true,
		size: pageSize{limit: firstPage, maxKeys: 2 * auditKeys, target: 1 << 20},
	}
	c.source = func(ctx context.Context, cursor []byte) (*part, error) {
		p, err := mirrored(ctx, o.mirror, 0, keyhook.Range{Start: cursor, End: o.state.Range.End}, auditKeys)
		if err != nil {
			return nil, mirrorFailed(o.state.Range, err)
		}
		report.Keys += p.live()
		return p, nil
	}
	for cursor := o.state.Range.Start; ; {
		found, to, err := c.next(ctx, cursor)
		if err != nil {
			return err
		}
		if report.Partial {
			found = slices.DeleteFunc(found, func(d difference) bool { return !d.contradicts(o.state.Position.Next) })
		}
		report.add(found, rev)
		o.progress(report.Keys)
		if to == nil {
			return nil
		}
		cursor = to
	}
}
