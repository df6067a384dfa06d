package watch

import (
	"slices"
	"strconv"
	"strings"
)

// defect is a bug of etcd's server that a watch cannot make up for.
type defect struct {
	what  string
	issue string
	fixed []release // the first release without it, of each minor version
}

type release struct{ major, minor, patch int }

var defects = []defect{
	{"events are skipped silently after a compaction while the watch is behind", "etcd-io/etcd#17529", []release{{3, 4, 31}, {3, 5, 13}}},
	{"a delete is dropped if etcd is compacted at its revision", "etcd-io/etcd#18089", []release{{3, 4, 34}, {3, 5, 16}}},
	{"a delete is missing at the compacted revision after a crash", "etcd-io/etcd#19179", []release{{3, 4, 36}, {3, 5, 18}}},
	{"a watch from a future revision gets old events", "etcd-io/etcd#20221", []release{{3, 4, 38}, {3, 5, 22}, {3, 6, 2}}},
	{"a watch goes back in time after a snapshot", "etcd-io/etcd#15271", []release{{3, 4, 25}, {3, 5, 8}}},
	{"progress notifications overtake events", "etcd-io/etcd#15220", []release{{3, 4, 25}, {3, 5, 8}}},
	{"the revision decreases after a compaction fails", "etcd-io/etcd#17780", []release{{3, 5, 14}}},
	{"a user may watch keys that it may not read", "GHSA-xg4h-6gfc-h4m8", []release{{3, 5, 33}, {3, 6, 14}, {3, 7, 1}}},
}

// knownDefects returns the defects of a version like "3.5.17"; none if it cannot
// be read.
func knownDefects(version string) []defect {
	v, ok := parseRelease(version)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(defects), func(d defect) bool { return !d.in(v) })
}

// in reports whether v has the defect: a minor version that was never fixed has
// it if it is older than all that were.
func (d defect) in(v release) bool {
	for _, f := range d.fixed {
		if f.major == v.major && f.minor == v.minor {
			return v.patch < f.patch
		}
	}
	oldest := d.fixed[0]
	return v.major < oldest.major || v.major == oldest.major && v.minor < oldest.minor
}

func (d defect) fixedIn() string {
	var names []string
	for _, f := range d.fixed {
		names = append(names, strconv.Itoa(f.major)+"."+strconv.Itoa(f.minor)+"."+strconv.Itoa(f.patch))
	}
	return strings.Join(names, ", ")
}

func parseRelease(version string) (r release, ok bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return r, false
	}
	for i, field := range []*int{&r.major, &r.minor, &r.patch} {
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return r, false
		}
		*field = n
	}
	return r, true
}
