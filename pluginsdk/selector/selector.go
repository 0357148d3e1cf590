// Package selector reads label selectors as kubectl writes them, for plugins
// that take one in their configuration. It uses neither reflection nor fmt.
package selector

import (
	"errors"
	"strings"
)

// Selector selects by labels. The zero Selector selects everything.
type Selector struct{ requirements []requirement }

type requirement struct {
	key    string
	values []string // nil = any value
	not    bool
}

// maxText bounds a selector.
const maxText = 4096

// Parse reads a=b, a==b, a!=b, a in (b,c), a notin (b,c), a and !a, joined by
// commas; as in Kubernetes, a!=b and a notin (b) select what has no a. "" is the
// zero Selector.
func Parse(text string) (Selector, error) {
	if len(text) > maxText {
		return Selector{}, errors.New("label selector: over 4096 bytes")
	}
	var s Selector
	rest := text
	for more := strings.TrimSpace(text) != ""; more; {
		var part string
		part, rest, more = cut(rest)
		r, err := parse(strings.TrimSpace(part))
		if err != nil {
			return Selector{}, err
		}
		s.requirements = append(s.requirements, r)
	}
	return s, nil
}

// Empty reports whether the selector selects everything.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// Keys returns the labels the selector asks for, each once.
func (s Selector) Keys() []string {
	var keys []string
	for i, r := range s.requirements {
		again := false
		for _, before := range s.requirements[:i] {
			again = again || before.key == r.key
		}
		if !again {
			keys = append(keys, r.key)
		}
	}
	return keys
}

// Matches reports whether the labels fit; label looks one up.
func (s Selector) Matches(label func(key string) (value string, ok bool)) bool {
	for _, r := range s.requirements {
		value, ok := label(r.key)
		if ok && r.values != nil {
			ok = false
			for _, v := range r.values {
				ok = ok || v == value
			}
		}
		if ok == r.not {
			return false
		}
	}
	return true
}

// cut cuts at the first comma outside parentheses.
func cut(text string) (part, rest string, more bool) {
	open := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '(':
			open = true
		case c == ')':
			open = false
		case c == ',' && !open:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

func parse(text string) (requirement, error) {
	var r requirement
	r.key = text
	if key, ok := strings.CutPrefix(text, "!"); ok {
		r.key, r.not = key, true
	} else if key, list, ok := strings.Cut(text, "("); ok {
		list, closed := strings.CutSuffix(list, ")")
		word := ""
		if space := strings.LastIndexByte(strings.TrimSpace(key), ' '); space >= 0 {
			key, word = key[:space], strings.TrimSpace(key[space:])
		}
		if !closed || word != "in" && word != "notin" {
			return r, errors.New("label selector: " + quote(text) + " is not like a in (b,c) or a notin (b,c)")
		}
		r.key, r.values, r.not = key, strings.Split(list, ","), word == "notin"
	} else if key, value, ok := strings.Cut(text, "!="); ok {
		r.key, r.values, r.not = key, []string{value}, true
	} else if key, value, ok := strings.Cut(text, "="); ok {
		r.key, r.values = key, []string{strings.TrimPrefix(value, "=")}
	}
	r.key = strings.TrimSpace(r.key)
	if !IsKey(r.key) {
		return r, errors.New("label selector: " + quote(text) + " names no label")
	}
	for i, v := range r.values {
		if r.values[i] = strings.TrimSpace(v); !IsValue(r.values[i]) {
			return r, errors.New("label selector: " + quote(v) + " is no value of a label")
		}
	}
	return r, nil
}

// quote makes text fit for a message.
func quote(text string) string {
	return "\"" + strings.ToValidUTF8(text[:min(len(text), 100)], "?") + "\""
}

// IsKey reports whether Kubernetes takes s as the key of a label or annotation.
func IsKey(s string) bool {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		return s != "" && IsValue(s)
	}
	if prefix == "" || len(prefix) > 253 || name == "" || !IsValue(name) {
		return false
	}
	for part := range strings.SplitSeq(prefix, ".") {
		if part == "" || len(part) > 63 || !word(part, "-", false) {
			return false
		}
	}
	return true
}

// IsValue reports whether Kubernetes takes s as the value of a label.
func IsValue(s string) bool { return s == "" || len(s) <= 63 && word(s, "-._", true) }

// word reports whether s consists of letters, digits and, between those, what
// is in others.
func word(s, others string, upper bool) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || upper && c >= 'A' && c <= 'Z':
		case i > 0 && i+1 < len(s) && strings.IndexByte(others, c) >= 0:
		default:
			return false
		}
	}
	return true
}
