package hostabi

import (
	"fmt"
	"strings"
)

// Kind names a kind of object, as lookups are granted.
type Kind struct {
	Group   string // "" is the core group
	Version string
	Kind    string
}

// ParseKind reads "v1/Namespace" or "apps/v1/Deployment".
func ParseKind(text string) (Kind, error) {
	parts := strings.Split(text, "/")
	var k Kind
	switch len(parts) {
	case 2:
		k = Kind{"", parts[0], parts[1]}
	case 3:
		k = Kind{parts[0], parts[1], parts[2]}
		if !isSubdomain(k.Group) {
			return Kind{}, fmt.Errorf("%q: the group is no DNS name", clip(text))
		}
	default:
		return Kind{}, fmt.Errorf("%q is not like v1/Namespace or apps/v1/Deployment", clip(text))
	}
	if !isLabel(k.Version) || !isKindName(k.Kind) {
		return Kind{}, fmt.Errorf("%q is not like v1/Namespace or apps/v1/Deployment", clip(text))
	}
	return k, nil
}

// String returns the form ParseKind reads.
func (k Kind) String() string {
	if k.Group == "" {
		return k.Version + "/" + k.Kind
	}
	return k.Group + "/" + k.Version + "/" + k.Kind
}

func isKindName(s string) bool {
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	return s != "" && len(s) <= 63 && upper(s[0]) && all(s, func(c byte) bool { return upper(c) || isLower(c) || isDigit(c) })
}

// isPattern accepts a base name with at most one *.
func isPattern(s string) bool {
	if s == "" || len(s) > 128 || strings.Count(s, "*") > 1 || s == "." || s == ".." {
		return false
	}
	return all(s, func(c byte) bool { return c > ' ' && c < 0x7f && c != '/' && c != '\\' })
}

// MatchPattern reports whether a base name fits a pattern of a deployer's
// manifest, and what its * stands for.
func MatchPattern(pattern, name string) (star string, ok bool) {
	before, after, has := strings.Cut(pattern, "*")
	if !has {
		return "", pattern == name
	}
	rest, ok := strings.CutPrefix(name, before)
	if !ok {
		return "", false
	}
	star, ok = strings.CutSuffix(rest, after)
	return star, ok && star != ""
}
