// Package componentargs merges the arguments cleat gives an embedded component
// with those an operator adds by --kube-apiserver-arg and its siblings.
package componentargs

import (
	"maps"
	"slices"
	"strings"
)

// Merge returns "--key=value" arguments, sorted by key: every default whose key
// extra does not name, then extra. Each of extra is "key=value" or "key", with
// or without leading dashes; a key named more than once is passed as often.
func Merge(defaults map[string]string, extra []string) []string {
	named := make(map[string]bool, len(extra))
	added := make([]string, 0, len(extra))
	for _, arg := range extra {
		arg = strings.TrimLeft(arg, "-")
		key, _, hasValue := strings.Cut(arg, "=")
		if !hasValue {
			arg += "=true"
		}
		named[key] = true
		added = append(added, "--"+arg)
	}
	args := make([]string, 0, len(defaults)+len(added))
	for _, key := range slices.Sorted(maps.Keys(defaults)) {
		if !named[key] {
			args = append(args, "--"+key+"="+defaults[key])
		}
	}
	return append(args, added...)
}

// Value returns what Merge would pass for key, "" if nothing: the last of
// extra that names it, else the default.
func Value(key string, defaults map[string]string, extra []string) string {
	value := defaults[key]
	for _, arg := range extra {
		if k, v, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); k == key {
			value = v
		}
	}
	return value
}
