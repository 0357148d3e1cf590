package main

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern, value string
		want           bool
	}{
		{"*", "", true}, {"*", "anything", true}, {"?*", "", false}, {"?*", "x", true},
		{"", "", true}, {"", "x", false},
		{"a", "a", true}, {"a", "ab", false}, {"ab", "a", false},
		{"a|b", "b", true}, {"a|b", "a|b", false}, {"a|", "", true}, {"a|b|c*", "cd", true},
		{"team-*", "team-", true}, {"team-*", "team-x", true}, {"team-*", "a-team-x", false},
		{"*-x", "a-x", true}, {"*-x", "a-x-x", true}, {"*-x", "a-xx", false},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false}, {"a*b*c", "abcbc", true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a?c", "aüc", true}, {"???", "aü", false}, {"*??", "ü", false},
		{"[a]", "a", false}, {"a.c", "abc", false},
	} {
		if got := pattern(tt.pattern).matches([]byte(tt.value)); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.value, got)
		}
	}
	for p, want := range map[pattern]string{
		"*": "any value", "?*": "any value but an empty one", "a": "a", "a|b": "one of a, b", "a-*|b": "a value like a-* or b",
	} {
		if got := p.explain(); got != want {
			t.Errorf("%q: %s", p, got)
		}
	}
}

func TestPatternIsQuick(t *testing.T) {
	p := pattern(strings.Repeat("*a", 200) + "b")
	value := []byte(strings.Repeat("a", 20_000))
	if n := testing.AllocsPerRun(2, func() {
		if p.matches(value) {
			t.Error("matches")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b?|c", "axxbü")
	f.Add("*a*a*b", "aaaaaaaa")
	f.Fuzz(func(t *testing.T, p, value string) {
		if !utf8.ValidString(p) || !utf8.ValidString(value) || len(p) > 200 {
			return
		}
		var same strings.Builder
		for _, c := range p {
			switch c {
			case '*':
				same.WriteString(".*")
			case '?':
				same.WriteString(".")
			case '|':
				same.WriteString("|")
			default:
				same.WriteString(regexp.QuoteMeta(string(c)))
			}
		}
		want := regexp.MustCompile(`(?s)\A(?:` + same.String() + `)\z`).MatchString(value)
		if got := pattern(p).matches([]byte(value)); got != want {
			t.Errorf("%q matches %q: %v, want %v", p, value, got, want)
		}
	})
}
