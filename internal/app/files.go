package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// pollInterval finds what the kernel does not tell: network file systems,
	// symbolic links that are swapped, directories that appear.
	pollInterval = 400 * time.Millisecond
	// settle is how long files must be left alone: editors and deployments write
	// in several steps.
	settle = 50 * time.Millisecond
	// settleAtMost keeps files that are written without end from being ignored.
	settleAtMost = 300 * time.Millisecond
)

// fileWatch tells when the files that globs match may have changed.
//
//	change ──▶ settle ──▶ less than before? ──no──────────────────▶ changed
//	                        │      ▲                                   ▲
//	                        └─yes──┘ until it is back, or stays away ──┘
type fileWatch struct {
	globs  []string
	list   func() listing // of the files whose loss is waited out
	losses *losses
	log    *slog.Logger
}

// run calls changed, from this goroutine, within a second of each change, until
// ctx ends. It may call it without one. The listing is of what is there then;
// if changed returns false it found something else, and is called again.
func (w *fileWatch) run(ctx context.Context, changed func(listing) bool) (err error) {
	var events <-chan fsnotify.Event
	var failures <-chan error
	notifier, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("the system does not tell of changes of the rule files; polling does", "error", err)
	} else {
		defer func() { err = notifier.Close() }()
		events, failures = notifier.Events, notifier.Errors
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()

	var since time.Time // the first change that is being waited out
	wait := func(from time.Time) {
		if since.IsZero() {
			since = from
		}
		quiet.Reset(max(0, min(settle, settleAtMost-time.Since(since))))
	}
	w.follow(notifier)
	last, looked := w.fingerprint(), time.Now()
	wait(looked) // whatever was changed since the files were read
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if w.concerns(e.Name) {
				wait(time.Now())
			}
		case err := <-failures:
			w.log.Warn("the system missed changes of the rule files; polling finds them", "error", err)
		case <-poll.C:
			before := looked
			looked = time.Now()
			if now := w.fingerprint(); now != last {
				last = now
				w.follow(notifier)
				wait(before)
			}
		case <-quiet.C:
			last, looked = w.fingerprint(), time.Now()
			there := w.list()
			if since.IsZero() {
				since = looked
			}
			w.losses.look(there, since)
			since = time.Time{}
			if left := w.losses.wait(looked); left > 0 {
				w.log.Debug("rule files are gone or shorter than before; waiting whether they come back", "files", w.losses.paths())
				quiet.Reset(left)
				continue
			}
			if changed(there) {
				w.losses.take(there)
			} else {
				wait(time.Now())
			}
		}
	}
}

// concerns reports whether a glob matches path.
func (w *fileWatch) concerns(path string) bool {
	return slices.ContainsFunc(w.globs, func(glob string) bool {
		ok, err := filepath.Match(glob, path)
		return ok && err == nil
	})
}

// follow asks the system to tell of changes in the directories that the globs
// name. What it cannot follow is left to polling.
func (w *fileWatch) follow(notifier *fsnotify.Watcher) {
	if notifier == nil {
		return
	}
	for _, glob := range w.globs {
		dirs, err := filepath.Glob(filepath.Dir(glob))
		if err != nil {
			continue // the glob was checked when the configuration was read
		}
		for _, dir := range dirs {
			if err := notifier.Add(dir); err != nil {
				w.log.Debug("cannot follow a directory; polling does", "dir", dir, "error", err)
			}
		}
	}
}

// fingerprint changes when a file that a glob matches does.
func (w *fileWatch) fingerprint() string {
	var b strings.Builder
	for _, glob := range w.globs {
		paths, err := filepath.Glob(glob)
		if err != nil {
			continue // the glob was checked when the configuration was read
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				fmt.Fprintf(&b, "%q: unreadable\n", path)
				continue
			}
			fmt.Fprintf(&b, "%q: %d bytes of %d\n", path, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
