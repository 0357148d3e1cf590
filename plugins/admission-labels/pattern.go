package main

import "strings"

// pattern says which values a label may have: alternatives divided by |, in
// which * stands for any text and ? for one character.
type pattern string

// matches reports whether the whole value fits. It allocates nothing.
func (p pattern) matches(value []byte) bool {
	rest := string(p)
	for more := true; more; {
		var alternative string
		alternative, rest, more = strings.Cut(rest, "|")
		if glob(alternative, value) {
			return true
		}
	}
	return false
}

// glob compares from left to right and, where they differ, goes back to the
// last * alone, so that its time is at most the product of the lengths.
func glob(p string, value []byte) bool {
	i, v := 0, 0
	star, again := -1, 0 // the last *, and where in value it is to end next
	for v < len(value) {
		switch {
		case i < len(p) && p[i] == '*':
			star, again = i, v
			i++
		case i < len(p) && p[i] == '?':
			i++
			v += character(value[v:])
		case i < len(p) && p[i] == value[v]:
			i++
			v++
		case star >= 0:
			again += character(value[again:])
			i, v = star+1, again
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// character returns how many bytes the first character of UTF-8 text has.
func character(text []byte) int {
	n := 1
	for n < len(text) && text[n]&0xc0 == 0x80 {
		n++
	}
	return n
}

// explain says in words what the pattern allows.
func (p pattern) explain() string {
	switch {
	case p == "*":
		return "any value"
	case p == "?*":
		return "any value but an empty one"
	case !strings.ContainsAny(string(p), "*?|"):
		return string(p)
	case !strings.ContainsAny(string(p), "*?"):
		return "one of " + strings.ReplaceAll(string(p), "|", ", ")
	}
	return "a value like " + strings.ReplaceAll(string(p), "|", " or ")
}
