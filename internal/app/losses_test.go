package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is looked at, when, and how long it has to last until it counts.
func TestALossCountsOnceItHasLasted(t *testing.T) {
	before := listing{"a": 100, "b": 50}
	const ms = time.Millisecond
	type look struct {
		at   time.Duration
		now  listing
		wait time.Duration
	}
	for name, looks := range map[string][]look{
		"nothing is lost":                  {{0, listing{"a": 100, "b": 51, "c": 1}, 0}},
		"removed":                          {{0, listing{"a": 100}, 900 * ms}, {899 * ms, listing{"a": 100}, 1 * ms}, {900 * ms, listing{"a": 100}, 0}},
		"emptied":                          {{0, listing{"a": 100, "b": 0}, 900 * ms}, {900 * ms, listing{"a": 100, "b": 0}, 0}},
		"shortened":                        {{0, listing{"a": 99, "b": 50}, 500 * ms}, {500 * ms, listing{"a": 99, "b": 50}, 0}},
		"replaced in two steps":            {{0, listing{"a": 100}, 900 * ms}, {150 * ms, listing{"a": 100, "b": 60}, 0}},
		"written again bit by bit":         {{0, listing{"a": 100}, 900 * ms}, {100 * ms, listing{"a": 100, "b": 1}, 400 * ms}, {200 * ms, listing{"a": 100, "b": 50}, 0}},
		"one is back and another is away":  {{0, listing{"a": 100}, 900 * ms}, {800 * ms, listing{"b": 50}, 900 * ms}, {1700 * ms, listing{"b": 50}, 0}},
		"renamed":                          {{0, listing{"a": 100, "new": 50}, 900 * ms}, {900 * ms, listing{"a": 100, "new": 50}, 0}},
		"always one that was just removed": {{0, listing{"a": 100}, 900 * ms}, {4500 * ms, listing{}, 900 * ms}, {5000 * ms, listing{}, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLosses(before)
			begin := time.Now()
			for i, look := range looks {
				l.look(look.now, begin.Add(look.at))
				if got := l.wait(begin.Add(look.at)); got != look.wait {
					t.Errorf("look %d: %v is left, want %v", i+1, got, look.wait)
				}
			}
		})
	}
}

func TestWhatWasTakenIsWhatCounts(t *testing.T) {
	l := newLosses(listing{"a": 100})
	begin := time.Now()
	l.look(listing{}, begin)
	l.take(listing{"b": 1})
	l.look(listing{"b": 1}, begin)
	if got := l.wait(begin); got != 0 {
		t.Errorf("%v is left", got)
	}
}

// noticed is told of each line that is logged.
type noticed chan struct{}

func (n noticed) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("waiting whether they come back")) {
		select {
		case n <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// A file that is replaced by removing it and writing it again is never seen to
// be missing.
func TestAFileIsReplacedInTwoSteps(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func() listing {
		all := listing{}
		paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil {
			t.Error(err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil {
				all[filepath.Base(path)] = info.Size()
			}
		}
		return all
	}
	write("a.yaml", "a")
	write("b.yaml", "b")
	gone := make(noticed, 1)
	w := fileWatch{
		globs: []string{filepath.Join(dir, "*.yaml")}, list: list, losses: newLosses(list()),
		log: slog.New(slog.NewTextHandler(gone, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.losses.gone, w.losses.most = time.Hour, time.Hour
	seen := make(chan listing, 100)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- w.run(ctx, func(l listing) bool { seen <- l; return true })
	}()
	<-seen // as they were

	if err := os.Remove(filepath.Join(dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	write("c.yaml", "c")
	<-gone
	write("b.yaml", "another b")
	if l := <-seen; l["b.yaml"] != 9 || l["c.yaml"] != 1 {
		t.Errorf("it saw %v", l)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
