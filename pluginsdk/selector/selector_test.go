package selector_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/pluginsdk/selector"
)

func TestMatches(t *testing.T) {
	labels := map[string]string{"tier": "gold", "a.b/c": "1", "empty": ""}
	label := func(key string) (string, bool) {
		v, ok := labels[key]
		return v, ok
	}
	for text, want := range map[string]bool{
		"": true, " ": true,
		"tier=gold": true, "tier==gold": true, " tier = gold ": true, "tier=iron": false, "none=gold": false,
		"tier!=gold": false, "tier!=iron": true, "none!=gold": true,
		"tier": true, "none": false, "!tier": false, "!none": true, "! none": true, "empty": true, "empty=": true, "tier=": false,
		"tier in (iron,gold)": true, "tier in ( iron , gold )": true, "tier in (iron)": false, "none in (gold)": false, "empty in ()": true,
		"tier notin (gold)": false, "tier notin (iron)": true, "none notin (gold)": true,
		"a.b/c=1,tier in (gold,iron),!none": true, "a.b/c=1,tier=iron": false, "a.b/c=2,tier=gold": false,
	} {
		s, err := selector.Parse(text)
		if err != nil || s.Matches(label) != want {
			t.Errorf("%q: %v, %v, want %v", text, s.Matches(label), err, want)
		}
		if s.Empty() != (strings.TrimSpace(text) == "") {
			t.Errorf("%q: empty is %v", text, s.Empty())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		",", "a,", ",a", "=b", "!", "a b", "a=b c", "a in b", "a in (b", "a on (b)", "in (b)", "a in (b)c", "a=b=c", "a>1", "/a=b", "a/=b", "a/b/c",
		"a=" + strings.Repeat("x", 64), strings.Repeat("a,", 3000) + "a", "ü", "a=\xff",
	} {
		if s, err := selector.Parse(text); err == nil {
			t.Errorf("%.40q: got %+v", text, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"a=b", "a in (b,c),!d", "a notin (b", "((", "a!=b,,"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := selector.Parse(text)
		if err != nil {
			return
		}
		s.Matches(func(key string) (string, bool) {
			if key == "" || strings.ContainsAny(key, " ,=!()") {
				t.Errorf("%q asks for the label %q", text, key)
			}
			return "", false
		})
	})
}

func TestKeysAndValues(t *testing.T) {
	s, err := selector.Parse("a=b,c/d,!a")
	if err != nil || !slices.Equal(s.Keys(), []string{"a", "c/d"}) {
		t.Errorf("keys %q, %v", s.Keys(), err)
	}
	for key, want := range map[string]bool{
		"a": true, "A_b.c-9": true, "example.org/a": true, "a/b": true,
		"": false, "/a": false, "a/": false, "a/b/c": false, "-a": false, "a-": false, "Example.org/a": false, "a..b/c": false, "-a.b/c": false,
		"a b": false, strings.Repeat("x", 64): false, strings.Repeat("x", 254) + "/a": false,
	} {
		if got := selector.IsKey(key); got != want {
			t.Errorf("key %.20q: %v", key, got)
		}
	}
	for value, want := range map[string]bool{"": true, "a": true, "1.2_3-B": true, "-": false, "a/b": false, "ü": false, strings.Repeat("x", 64): false} {
		if got := selector.IsValue(value); got != want {
			t.Errorf("value %.20q: %v", value, got)
		}
	}
}
