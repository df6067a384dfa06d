package strictyaml

import (
	"strings"
)

// DidYouMean returns a hint for a name that is not among the known ones: the
// nearest of them, or the whole list if there is none near and the list is
// short. It returns "" if it has nothing to say.
func DidYouMean(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return `did you mean "` + near + `"?`
	}
	const short = 12
	if len(known) == 0 || len(known) > short {
		return ""
	}
	return "known here: " + strings.Join(known, ", ")
}

// Nearest returns the known name that a typo may have turned into name, or "".
func Nearest(name string, known []string) string {
	best, bestDistance := "", 1+max(1, len(name)/3)
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return k
		}
		if d := distance(name, k, bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b; it gives up at limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
