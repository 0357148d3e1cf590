package main

import (
	"fmt"
	"slices"
	"strings"
)

const (
	opening = "%{"
	closing = "}%"
)

// substitute replaces %{NAME}% by the variable's value. Values are taken as
// they are, and not looked through again. What is not a variable stays as it
// is, since it may be meant for something else; a name nobody knows is a
// warning.
func substitute(text string, variables map[string]string) (string, []string) {
	var b strings.Builder
	var warnings []string
	for {
		before, rest, found := strings.Cut(text, opening)
		b.WriteString(before)
		if !found {
			return b.String(), warnings
		}
		name, after, found := strings.Cut(rest, closing)
		if !found || !isName(name) {
			b.WriteString(opening)
			text = rest
			continue
		}
		value, known := variables[name]
		if !known {
			value = opening + name + closing
			warning := fmt.Sprintf("variable %s is unknown and was left as it is; there are %s", value, names(variables))
			if !slices.Contains(warnings, warning) {
				warnings = append(warnings, warning)
			}
		}
		b.WriteString(value)
		text = after
	}
}

func isName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
	})
}

func names(variables map[string]string) string {
	if len(variables) == 0 {
		return "none"
	}
	list := make([]string, 0, len(variables))
	for name := range variables {
		list = append(list, name)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
