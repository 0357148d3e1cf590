//go:build !wasip1

package plugintest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// Values of Mutation.Op.
const (
	opSet    = "set"
	opRemove = "remove"
	opAppend = "append"
)

// step is one step of the way to a place in an object: a key, or an element
// when index is 0 or more.
type step struct {
	key   string
	index int
}

// locate returns the way to element index of what the steps name below node;
// index -1 is for steps without [*].
func locate(node any, steps []hostabi.PathSegment, index int) ([]step, bool) {
	way := []step{}
	for i, s := range steps {
		if !s.Each {
			m, _ := node.(map[string]any)
			node = m[s.Key]
			way = append(way, step{s.Key, -1})
			continue
		}
		list, _ := node.([]any)
		for n, e := range list {
			inner := valuesAt(e, steps[i+1:])
			if index >= len(inner) {
				index -= len(inner)
				continue
			}
			rest, ok := locate(e, steps[i+1:], index)
			return append(append(way, step{index: n}), rest...), ok
		}
		return nil, false
	}
	return way, true
}

// way returns the way to what was changed in the object the hook was given.
func (m Mutation) way(object any) ([]step, error) {
	path, err := hostabi.ParseFieldPath(m.Path)
	if err != nil {
		return nil, err
	}
	way, ok := locate(object, path.Segments(), m.Index)
	if !ok {
		return nil, fmt.Errorf("%s has no element %d", m.Path, m.Index)
	}
	return way, nil
}

// Place returns the place in the object the hook was given, as JSON, that was
// changed: spec.containers[0].image for example. It is Path if there is no such
// place.
func (m Mutation) Place(object string) string {
	decoded, err := parseObject(object)
	if err != nil {
		return m.Path
	}
	way, err := m.way(decoded)
	if err != nil {
		return m.Path
	}
	return place(way)
}

func place(way []step) string {
	var b strings.Builder
	for _, s := range way {
		if s.index >= 0 {
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		// The syntax of one key is that of a path with this key alone.
		text := "['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.key) + "']"
		if path, err := hostabi.ParseFieldPath(text); err == nil {
			text = path.String()
		}
		if b.Len() > 0 && !strings.HasPrefix(text, "[") {
			b.WriteByte('.')
		}
		b.WriteString(text)
	}
	return b.String()
}

// hole stands where an element was removed until all mutations are made, so
// that positions stay what they were.
type hole struct{}

// apply returns object with the mutations made.
func apply(object map[string]any, mutations []Mutation) (map[string]any, error) {
	if len(mutations) == 0 {
		return object, nil
	}
	if object == nil {
		return nil, errors.New("the request has no object to change")
	}
	text, err := hostabi.AppendJSON(nil, object)
	if err != nil {
		return nil, err
	}
	result, err := hostabi.ParseJSON(text)
	if err != nil {
		return nil, err
	}
	for _, m := range mutations {
		way, err := m.way(any(object))
		if err == nil {
			result, err = m.apply(result, way)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", m.Op, m.Path, err)
		}
	}
	return closeHoles(result).(map[string]any), nil
}

// apply makes the mutation below node and returns what stands there then.
func (m Mutation) apply(node any, way []step) (any, error) {
	if len(way) == 0 {
		if m.Op == opSet {
			return m.Value, nil
		}
		list, ok := node.([]any)
		if node != nil && !ok {
			return nil, errors.New("there is a value that is no list")
		}
		return append(list, m.Value), nil
	}
	s, last := way[0], len(way) == 1
	if s.index >= 0 {
		list, _ := node.([]any)
		if s.index >= len(list) || list[s.index] == (hole{}) && m.Op != opRemove {
			return nil, errors.New("the list has no such element any more")
		}
		var err error
		if last && m.Op == opRemove {
			list[s.index] = hole{}
		} else if list[s.index] != (hole{}) {
			list[s.index], err = m.apply(list[s.index], way[1:])
		}
		return list, err
	}
	object, ok := node.(map[string]any)
	if node != nil && !ok {
		return nil, errors.New("a value that is no map is on the way")
	}
	if m.Op == opRemove {
		if child, there := object[s.key]; last || !there {
			delete(object, s.key)
		} else if _, err := m.apply(child, way[1:]); err != nil {
			return nil, err
		}
		return node, nil
	}
	if object == nil {
		object = map[string]any{}
	}
	child, err := m.apply(object[s.key], way[1:])
	object[s.key] = child
	return object, err
}

func closeHoles(node any) any {
	switch node := node.(type) {
	case map[string]any:
		for k, v := range node {
			node[k] = closeHoles(v)
		}
	case []any:
		node = slices.DeleteFunc(node, func(e any) bool { return e == (hole{}) })
		for i, v := range node {
			node[i] = closeHoles(v)
		}
		return node
	}
	return node
}
