package ruletest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"keyhook"
)

// Recording gathers changes to make a test of them. The zero value of what it
// has seen is ready to use.
type Recording struct {
	Name   string
	Config string   // the configuration, as a path
	Source string   // names the history, as in delivery ids
	Only   []string // rules that count; nil: all

	revisions map[int64]*recorded
	bytes     int
	full      bool
}

// recorded is one revision.
type recorded struct {
	at     time.Time
	events []*keyhook.Event
}

// Bounds of a recording.
const (
	maxRecorded      = 5000    // revisions
	maxRecordedBytes = 4 << 20 // of what was seen
)

// ErrRecordingFull is returned for what a recording does not take any more.
var ErrRecordingFull = errors.New("the recording is full")

// Add takes changes of one revision.
func (r *Recording) Add(events []*keyhook.Event) error {
	for _, ev := range events {
		if r.bytes += ev.Size(); r.bytes > maxRecordedBytes || len(r.revisions) >= maxRecorded {
			r.full = true
			return ErrRecordingFull
		}
		if r.revisions == nil {
			r.revisions = make(map[int64]*recorded)
		}
		one := r.revisions[ev.Revision]
		if one == nil {
			one = &recorded{at: ev.Time}
			r.revisions[ev.Revision] = one
		}
		one.events = append(one.events, ev)
	}
	return nil
}

// Full reports whether r takes nothing any more.
func (r *Recording) Full() bool { return r.full }

// Len returns how many revisions r holds.
func (r *Recording) Len() int { return len(r.revisions) }

// Record returns the file of tests, for path, that a recording makes: what was
// there and what changed, and what the rules make of it. It has been run, and
// passes.
func (r *Runner) Record(path string, rec *Recording) ([]byte, error) {
	if rec.Len() == 0 {
		return nil, errors.New("there was no change to record")
	}
	f, err := r.loadRecorded(path, rec.write(path, nil))
	if err != nil {
		return nil, err
	}
	// What is expected is what happens.
	p, err := f.play(f.spec.Tests[0])
	if err != nil {
		return nil, err
	}
	var windows []window
	p.onlooker = func(w window) { windows = append(windows, w) }
	p.run()
	if len(p.failures) > 0 {
		return nil, fmt.Errorf("the recording cannot be played: %w", &p.failures[0])
	}
	data := rec.write(path, windows)
	if f, err = r.loadRecorded(path, data); err != nil {
		return nil, err
	}
	for _, t := range f.Run(nil).Tests {
		if len(t.Failures) > 0 {
			return nil, fmt.Errorf("the recording does not pass: %w", &t.Failures[0])
		}
	}
	return data, nil
}

func (r *Runner) loadRecorded(path string, data []byte) (*File, error) {
	f, problems := r.Load(path, data)
	if err := problems.Err(); err != nil {
		return nil, fmt.Errorf("the recording makes no test: %w", err)
	}
	return f, nil
}

// write writes the file; without windows nothing is known of what to expect.
func (r *Recording) write(path string, windows []window) []byte {
	var b bytes.Buffer
	config := r.Config
	if relative, err := relativeTo(filepath.Dir(path), config); err == nil {
		config = relative
	}
	fmt.Fprintf(&b, "config: %s\nsource: %s\n", text(config), text(r.Source))
	if len(r.Only) > 0 {
		names := make([]string, len(r.Only))
		for i, n := range r.Only {
			names[i] = text(n)
		}
		fmt.Fprintf(&b, "only: [%s]\n", strings.Join(names, ", "))
	}
	order := slices.Sorted(maps.Keys(r.revisions))
	first := r.revisions[order[0]]
	fmt.Fprintf(&b, "tests:\n  - name: %s\n    revision: %d\n", text(cmp.Or(r.Name, "recorded")), order[0]-1)
	r.leases(&b)
	r.seed(&b, order)
	b.WriteString("    steps:\n")
	at := time.Duration(0)
	for i, rev := range order {
		one := r.revisions[rev]
		at = max(at, one.at.Sub(first.at).Round(time.Millisecond))
		fmt.Fprintf(&b, "      - at: %s\n        revision: %d\n", short(at), rev)
		one.write(&b)
		if i < len(order)-1 {
			b.WriteString("        wait: 0s\n") // until the next one
		}
		if i < len(windows) {
			windows[i].write(&b)
		} else {
			b.WriteString("        expect_none: true\n")
		}
	}
	return b.Bytes()
}

func relativeTo(dir, path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	return filepath.Rel(dir, path)
}

// leases names every lease that is spoken of.
func (r *Recording) leases(b *bytes.Buffer) {
	ids := map[int64]bool{}
	for _, one := range r.revisions {
		for _, ev := range one.events {
			ids[ev.Lease] = true
			if ev.Prev != nil {
				ids[ev.Prev.Lease] = true
			}
		}
	}
	delete(ids, 0)
	if len(ids) == 0 {
		return
	}
	b.WriteString("    leases:\n")
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		fmt.Fprintf(b, "      %s: {ttl: 1h, id: %q}\n", leaseName(id), strconv.FormatInt(id, 16))
	}
}

func leaseName(id int64) string { return "lease-" + strconv.FormatInt(id, 16) }

// seed writes what was there of each key before its first change.
func (r *Recording) seed(b *bytes.Buffer, order []int64) {
	seen := map[string]bool{}
	head := "    seed:\n"
	for _, rev := range order {
		for _, ev := range r.revisions[rev].events {
			if seen[string(ev.Key)] {
				continue
			}
			seen[string(ev.Key)] = true
			kv, deleted := ev.Prev, false
			switch {
			case kv == nil && ev.Type == keyhook.Delete: // etcd does not know any more what it was
				kv = &keyhook.KeyValue{Revision: order[0] - 1, CreateRevision: order[0] - 1, Version: 1}
			case kv == nil && ev.Last != nil:
				kv, deleted = ev.Last, true
			case kv == nil:
				continue
			}
			fmt.Fprintf(b, "%s      %s: {%s", head, key(ev.Key), held(kv.Value))
			head = ""
			if kv.Revision > 0 && kv.Revision < order[0] {
				fmt.Fprintf(b, ", $revision: %d, $create_revision: %d, $version: %d", kv.Revision, kv.CreateRevision, kv.Version)
			}
			if kv.Lease != 0 && !deleted {
				fmt.Fprintf(b, ", $lease: %s", leaseName(kv.Lease))
			}
			if deleted {
				b.WriteString(", $deleted: true")
			}
			b.WriteString("}\n")
		}
	}
}

// write writes a transaction.
func (r *recorded) write(b *bytes.Buffer) {
	var puts, deletes []string
	deletesFirst := r.events[0].Type == keyhook.Delete
	for _, ev := range r.events {
		switch {
		case ev.Type == keyhook.Delete:
			deletes = append(deletes, "          - "+key(ev.Key)+"\n")
		case ev.Lease != 0:
			puts = append(puts, fmt.Sprintf("          %s: {%s, $lease: %s}\n", key(ev.Key), held(ev.Value), leaseName(ev.Lease)))
		case plain(ev.Value):
			puts = append(puts, fmt.Sprintf("          %s: %s\n", key(ev.Key), text(string(ev.Value))))
		default:
			puts = append(puts, fmt.Sprintf("          %s: {%s}\n", key(ev.Key), held(ev.Value)))
		}
	}
	parts := []string{"", ""}
	if len(puts) > 0 {
		parts[0] = "        put:\n" + strings.Join(puts, "")
	}
	if len(deletes) > 0 {
		parts[1] = "        delete:\n" + strings.Join(deletes, "")
	}
	if deletesFirst {
		slices.Reverse(parts)
	}
	b.WriteString(parts[0] + parts[1])
}

// write writes what happened as what is expected.
func (w *window) write(b *bytes.Buffer) {
	if len(w.arrivals) == 0 {
		b.WriteString("        expect_none: true\n")
	} else {
		b.WriteString("        expect:\n")
	}
	for _, a := range w.arrivals {
		fmt.Fprintf(b, "          - rule: %s\n            send: %s\n            key: %s\n", text(a.Rule), text(a.Send), key(a.Event.Key))
		if a.Message.Subject != "" {
			fmt.Fprintf(b, "            subject: %s\n", text(a.Message.Subject))
		}
		if len(a.Message.Headers) > 0 {
			b.WriteString("            headers:\n")
			for _, h := range a.Message.Headers {
				fmt.Fprintf(b, "              %s: %s\n", text(h.Name), text(h.Value))
			}
		}
		if plain(a.Message.Body) {
			u := update{body: a.Message.Body}
			fmt.Fprintf(b, "            body: %s\n", u.render(len("            ")))
		} else {
			fmt.Fprintf(b, "            content_type: %s\n", text(a.Message.ContentType))
		}
	}
	if len(w.deaths) > 0 {
		b.WriteString("        expect_dead:\n")
	}
	for _, d := range w.deaths {
		fmt.Fprintf(b, "          - {rule: %s, send: %s, key: %s, reason: %s}\n",
			text(d.Delivery.Rule), text(d.Delivery.Send), key(d.Delivery.Event.Key), d.Reason)
	}
	if len(w.errors) > 0 {
		var names []string
		for _, e := range w.errors {
			if !slices.Contains(names, text(e.Rule)) {
				names = append(names, text(e.Rule))
			}
		}
		fmt.Fprintf(b, "        expect_errors: [%s]\n", strings.Join(names, ", "))
	}
}

// plain reports whether b can stand in a file of YAML as text.
func plain(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}

// held writes a value as one of a map with its circumstances.
func held(value []byte) string {
	if plain(value) {
		return "$value: " + text(string(value))
	}
	return "$base64: " + base64.StdEncoding.EncodeToString(value)
}

func key(k []byte) string {
	if plain(k) && !bytes.HasPrefix(k, []byte(base64Key)) {
		return text(string(k))
	}
	return text(base64Key + base64.StdEncoding.EncodeToString(k))
}

// text writes s, which is plain, in quotes: those that need least escapes.
func text(s string) string {
	if strings.Contains(s, `"`) && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x2028 || r == 0x2029 }) < 0 {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return string(appendText(nil, s))
}
