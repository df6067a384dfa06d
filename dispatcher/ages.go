package dispatcher

import (
	"cmp"
	"slices"
	"sort"
)

// ages counts what is owed by the second of its admission, so that the oldest
// is known without a list of everything. It grows by one entry for each second
// that something is still owed from.
type ages struct {
	seconds []age // ascending; the first one is never empty
}

type age struct {
	second int64
	count  int64
}

func (a *ages) add(second int64) {
	n := len(a.seconds)
	if n > 0 && a.seconds[n-1].second == second {
		a.seconds[n-1].count++
		return
	}
	i := a.find(second)
	if i < n && a.seconds[i].second == second {
		a.seconds[i].count++
		return
	}
	a.seconds = slices.Insert(a.seconds, i, age{second, 1})
}

func (a *ages) remove(second int64) {
	i := a.find(second)
	if i == len(a.seconds) || a.seconds[i].second != second {
		return
	}
	a.seconds[i].count--
	switch {
	case a.seconds[i].count > 0:
	case i == 0:
		a.seconds = a.seconds[1:]
	default:
		a.seconds = slices.Delete(a.seconds, i, i+1)
	}
}

// load replaces all counts.
func (a *ages) load(counts map[int64]int64) {
	a.seconds = make([]age, 0, len(counts))
	for second, count := range counts {
		a.seconds = append(a.seconds, age{second, count})
	}
	slices.SortFunc(a.seconds, func(x, y age) int { return cmp.Compare(x.second, y.second) })
}

// oldest returns the second of the oldest admission that is still owed.
func (a *ages) oldest() (second int64, ok bool) {
	if len(a.seconds) == 0 {
		return 0, false
	}
	return a.seconds[0].second, true
}

func (a *ages) find(second int64) int {
	return sort.Search(len(a.seconds), func(i int) bool { return a.seconds[i].second >= second })
}
