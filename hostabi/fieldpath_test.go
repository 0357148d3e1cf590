package hostabi_test

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
)

func TestParseFieldPath(t *testing.T) {
	for _, tt := range []struct {
		text, canonical string
		wildcards       int
	}{
		{"spec", "spec", 0},
		{"spec.containers[*].image", "spec.containers[*].image", 1},
		{"spec.containers[*].ports[*].hostPort", "spec.containers[*].ports[*].hostPort", 2},
		{"metadata.labels['a.b/c']", "metadata.labels['a.b/c']", 0},
		{"metadata['labels']", "metadata.labels", 0},
		{"['spec'].hostPID", "spec.hostPID", 0},
		{`a['it\'s \\ it']`, `a['it\'s \\ it']`, 0},
		{"a[*][*]", "a[*][*]", 2},
	} {
		p, err := hostabi.ParseFieldPath(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if p.String() != tt.canonical || p.Wildcards() != tt.wildcards {
			t.Errorf("%s: got %s with %d [*], want %s with %d", tt.text, p, p.Wildcards(), tt.canonical, tt.wildcards)
		}
	}
}

func TestParseFieldPathRefuses(t *testing.T) {
	for _, tt := range []struct{ text, why string }{
		{"", "want a key"},
		{".a", "want a key"},
		{"a.", "want a key"},
		{"a..b", "want a key"},
		{"[*].a", "start with a key"},
		{"a[0]", "single elements"},
		{"a['b", "no closing quote"},
		{"a['']", "empty key"},
		{`a['\n']`, "a backslash quotes only"},
		{"a['b'x", "want ']'"},
		{"a b", "want '.'"},
		{"a['\x00']", "control character"},
		{"a\xff", "not UTF-8"},
		{strings.Repeat("a.", 40) + "a", "more than 32 steps"},
		{strings.Repeat("a", 2000), "longer than 1024"},
	} {
		_, err := hostabi.ParseFieldPath(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%.40q: got %v, want %q", tt.text, err, tt.why)
		}
	}
}

func TestFieldPathCovers(t *testing.T) {
	parse := func(text string) hostabi.FieldPath {
		p, err := hostabi.ParseFieldPath(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		wide, narrow string
		want         bool
	}{
		{"spec", "spec.hostPID", true},
		{"spec.hostPID", "spec.hostPID", true},
		{"spec.hostPID", "spec", false},
		{"spec.host", "spec.hostPID", false},
		{"metadata.labels", "metadata.labels['a.b/c']", true},
		{"spec.containers", "spec.containers[*].image", true},
		{"spec.containers[*]", "spec.containers[*].image", true},
		{"spec.containers[*].image", "spec.containers.image", false},
	} {
		if got := parse(tt.wide).Covers(parse(tt.narrow)); got != tt.want {
			t.Errorf("%s covers %s = %v, want %v", tt.wide, tt.narrow, got, tt.want)
		}
	}
	if (hostabi.FieldPath{}).Covers(parse("spec")) {
		t.Error("the zero path covers spec")
	}
}

func FuzzParseFieldPath(f *testing.F) {
	for _, seed := range []string{"spec.containers[*].image", "metadata.labels['a.b/c']", `a['\'\\'][*]`, "a..b", "['"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := hostabi.ParseFieldPath(text)
		if err != nil {
			return
		}
		again, err := hostabi.ParseFieldPath(p.String())
		if err != nil {
			t.Fatalf("%q gives %q, which fails: %v", text, p, err)
		}
		if again.String() != p.String() || !again.Covers(p) || !p.Covers(again) {
			t.Fatalf("%q gives %q gives %q", text, p, again)
		}
	})
}
