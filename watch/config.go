package watch

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"keyhook"
	"keyhook/checkpoint"
)

// Config is what a [Watcher] needs. Fields with a default may be left zero.
type Config struct {
	Client *clientv3.Client
	// Ranges are to be watched; overlapping and adjacent ones are merged.
	Ranges []keyhook.Range
	// States are the ranges of the checkpoint, with their positions.
	States []checkpoint.RangeState
	// Start is where a range begins that is in none of States.
	Start Start
	// Identity names the history that the checkpoint belongs to. It must be
	// durable before Run. Its ClusterID is required.
	Identity checkpoint.Identity
	Mirror   checkpoint.Mirror
	// HaltOnGap halts a range whose history cannot be read on, until [Watcher.Resume].
	// Without it the range is compared with etcd, and what differs is told as
	// synthetic changes.
	HaltOnGap bool
	Shard     uint32
	Consumer  Consumer

	Logger   *slog.Logger // default: discards
	Observer Observer     // default: nobody

	QueueBytes  int // of what was received and waits to be admitted, for each range; default 16 MiB
	BatchEvents int // at most, in a batch; default 250
	BatchBytes  int // about; a batch holds at least one event; default 1 MiB
	PageKeys    int // at most, in a page of a seed; default 10000
	PageBytes   int // about, of a page of a seed; default 4 MiB

	// CatchUpBehind is from how many revisions on a backlog is read in segments;
	// default 2000.
	CatchUpBehind int64
	// CatchUpWatchers read segments at once, those of all ranges together; default
	// 64. 1 reads everything with one watcher.
	CatchUpWatchers int
	// CatchUpBytes bounds what segments hold that wait for their turn, all ranges
	// together, but for the one of each range whose turn it is; default 32 MiB.
	CatchUpBytes int

	AuditRate int // keys a second that an audit compares by itself; default 2000

	RequestTimeout   time.Duration // of one request; default 5s
	ProgressInterval time.Duration // between requests for progress on an idle range; default 2s
	ProgressDeadline time.Duration // of silence, until a watch is made anew; default 1m
	RetryInitial     time.Duration // between attempts; default 100ms
	RetryMax         time.Duration // between attempts at most; default 2s
	RecheckInterval  time.Duration // of a halted range; default 30s
	DoubtInterval    time.Duration // between comparisons for changes that do not follow, at first; default 1m
	AuditInterval    time.Duration // between audits; a sixth of it after a start and an election; default 1h
	ProbeInterval    time.Duration // between looks at the compacted revision and the versions; default 1m
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Client == nil:
		return c, errors.New("watch: no client")
	case c.Mirror == nil:
		return c, errors.New("watch: no mirror")
	case c.Consumer == nil:
		return c, errors.New("watch: no consumer")
	case c.Identity.ClusterID == 0:
		return c, errors.New("watch: the identity has no cluster id")
	case c.Start.kind == startRevision && c.Start.revision < 1:
		return c, fmt.Errorf("watch: a start needs a revision from 1, not %d", c.Start.revision)
	}
	c.Ranges = Normalize(c.Ranges, 0)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.QueueBytes, 16 << 20}, {&c.BatchEvents, 250}, {&c.BatchBytes, 1 << 20},
		{&c.PageKeys, 10_000}, {&c.PageBytes, 4 << 20}, {&c.CatchUpWatchers, 64}, {&c.CatchUpBytes, 32 << 20}, {&c.AuditRate, 2000},
	} {
		if *d.field < 0 {
			return c, fmt.Errorf("watch: a limit is %d", *d.field)
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.CatchUpBehind == 0 {
		c.CatchUpBehind = 2000
	}
	for _, d := range []struct{ field, value *time.Duration }{
		{&c.RequestTimeout, new(5 * time.Second)},
		{&c.ProgressInterval, new(2 * time.Second)},
		{&c.ProgressDeadline, new(time.Minute)},
		{&c.RetryInitial, new(100 * time.Millisecond)},
		{&c.RetryMax, new(2 * time.Second)},
		{&c.RecheckInterval, new(30 * time.Second)},
		{&c.DoubtInterval, new(time.Minute)},
		{&c.AuditInterval, new(time.Hour)},
		{&c.ProbeInterval, new(time.Minute)},
	} {
		if *d.field < 0 {
			return c, fmt.Errorf("watch: an interval is %s", *d.field)
		}
		if *d.field == 0 {
			*d.field = *d.value
		}
	}
	return c, nil
}
