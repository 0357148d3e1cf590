package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxIndex bounds the lists that a path may make.
const maxIndex = 1024

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// step is a step of a path such as a.b[0].c: a key, or an index.
type step struct {
	key   string
	index int
	list  bool
}

// setValue sets a value as `helm --set path=value` does; text that is not true,
// false or null stays text.
func setValue(values map[string]any, path string, value any) error {
	steps, err := parsePath(path)
	if err != nil {
		return err
	}
	switch v := value.(type) {
	case float64:
		value = json.Number(strconv.FormatFloat(v, 'f', -1, 64))
	case string:
		switch strings.ToLower(v) {
		case "true":
			value = true
		case "false":
			value = false
		case "null":
			value = nil
		}
	case bool, nil:
	default:
		return fmt.Errorf("%q is neither text nor a number", path)
	}
	_, err = put(values, steps, path, value)
	return err
}

// put returns node with the value at the steps; node may be nil.
func put(node any, steps []step, path string, value any) (any, error) {
	if len(steps) == 0 {
		return value, nil
	}
	s := steps[0]
	if !s.list {
		m, ok := node.(map[string]any)
		if !ok {
			if node != nil {
				return nil, fmt.Errorf("%q goes through a value that is no object", path)
			}
			m = map[string]any{}
		}
		below, err := put(m[s.key], steps[1:], path, value)
		if err != nil {
			return nil, err
		}
		m[s.key] = below
		return m, nil
	}
	list, ok := node.([]any)
	if !ok && node != nil {
		return nil, fmt.Errorf("%q goes through a value that is no list", path)
	}
	for len(list) <= s.index {
		list = append(list, nil)
	}
	below, err := put(list[s.index], steps[1:], path, value)
	if err != nil {
		return nil, err
	}
	list[s.index] = below
	return list, nil
}

// parsePath reads a path; a backslash quotes the character after it.
func parsePath(path string) ([]step, error) {
	var steps []step
	var key strings.Builder
	named := false // a key was begun, or an index has just ended
	flush := func() {
		if key.Len() > 0 {
			steps = append(steps, step{key: key.String()})
			key.Reset()
		}
	}
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '\\':
			if i++; i == len(path) {
				return nil, fmt.Errorf("path %q ends in a backslash", path)
			}
			key.WriteByte(path[i])
			named = true
		case '.':
			if !named {
				return nil, fmt.Errorf("path %q has an empty key", path)
			}
			flush()
			named = false
		case '[':
			digits, _, closed := strings.Cut(path[i+1:], "]")
			index, err := strconv.Atoi(digits)
			if err != nil || !closed || index < 0 || index > maxIndex || !named {
				return nil, fmt.Errorf("path %q: want an index from 0 to %d, such as a[0]", path, maxIndex)
			}
			flush()
			steps = append(steps, step{index: index, list: true})
			i += len(digits) + 1
		default:
			key.WriteByte(c)
			named = true
		}
	}
	if !named {
		return nil, fmt.Errorf("path %q ends in an empty key", path)
	}
	flush()
	return steps, nil
}
