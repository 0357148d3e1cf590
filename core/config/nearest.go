package config

import "strings"

// Nearest returns the one of names that given was most likely meant to be, or
// "" if none is close: dashes, underscores and case are ignored, and about one
// letter in three may be wrong.
func Nearest(given string, names []string) string {
	given = plain(given)
	if given == "" || len(given) > 64 {
		return ""
	}
	best, found := len(given)/3+1, ""
	for _, name := range names {
		if d := distance(given, plain(name)); d < best || d == 0 {
			best, found = d, name
		}
	}
	return found
}

func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(name))
}

// distance is the number of letters to add, drop, change or swap with their
// neighbour that lie between a and b.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	next := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
