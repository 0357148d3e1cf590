package hostabi

import (
	"slices"
	"strings"
)

// isLabel reports whether s is a DNS label as Kubernetes names use it.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return all(s, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

func isSubdomain(s string) bool {
	return len(s) <= 253 && !slices.ContainsFunc(strings.Split(s, "."), func(part string) bool { return !isLabel(part) })
}

// isLabelKey reports whether s is the key of a Kubernetes label: an optional
// subdomain and slash, then a name.
func isLabelKey(s string) bool {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		prefix, name = "", s
	}
	return (!found || isSubdomain(prefix)) && name != "" && isLabelValue(name)
}

// isLabelValue reports whether s is the value of a Kubernetes label.
func isLabelValue(s string) bool {
	if s == "" {
		return true
	}
	alphanumeric := func(c byte) bool { return isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' }
	return len(s) <= 63 && alphanumeric(s[0]) && alphanumeric(s[len(s)-1]) &&
		all(s, func(c byte) bool { return alphanumeric(c) || c == '-' || c == '_' || c == '.' })
}

func isResource(s string) bool {
	resource, sub, found := strings.Cut(s, "/")
	if found && sub != "*" && !isLabel(sub) {
		return false
	}
	return resource == "*" || isSubdomain(resource)
}

// isVersion reports whether s is MAJOR.MINOR.PATCH with an optional
// pre-release part.
func isVersion(s string) bool {
	if len(s) > 64 {
		return false
	}
	core, pre, found := strings.Cut(s, "-")
	numbers := strings.Split(core, ".")
	if len(numbers) != 3 {
		return false
	}
	for _, n := range numbers {
		if n == "" || !all(n, isDigit) || len(n) > 1 && n[0] == '0' {
			return false
		}
	}
	if !found {
		return true
	}
	for part := range strings.SplitSeq(pre, ".") {
		if part == "" || !all(part, func(c byte) bool {
			return isLower(c) || isDigit(c) || c >= 'A' && c <= 'Z' || c == '-'
		}) {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func all(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
