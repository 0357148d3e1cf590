package pluginhost

import (
	"errors"
	"fmt"
	"slices"
)

// wayStep is one step of the way to a place in an object.
type wayStep struct {
	key     string
	index   int
	element bool // index, not key
}

type mutationKind uint8

const (
	mutationSet mutationKind = iota
	mutationRemove
	mutationAppend
)

// mutation is one recorded write. Its way was found in the object the hook was
// given, so list positions mean that object whatever earlier mutations did.
type mutation struct {
	kind  mutationKind
	path  string // as registered, for messages
	way   []wayStep
	value any
}

// removed stands where a list element was removed until all mutations are
// applied, so that the positions behind it stay what they were.
type removed struct{}

var (
	errElementGone = errors.New("the list has no such element any more")
	errNotAMap     = errors.New("a value that is no map stands on the way")
	errNotAList    = errors.New("a value that is no list stands there")
)

// applyMutations returns a copy of object with the mutations applied in order;
// object itself is not written.
func applyMutations(object map[string]any, mutations []mutation) (map[string]any, error) {
	result, _ := copyJSON(object).(map[string]any)
	if result == nil {
		return nil, errors.New("the request has no object to change")
	}
	holes := false
	for i, m := range mutations {
		if _, err := m.apply(result, m.way); err != nil {
			return nil, fmt.Errorf("mutation %d, path %s: %w", i+1, m.path, err)
		}
		holes = holes || m.kind == mutationRemove && m.way[len(m.way)-1].element
	}
	if holes {
		closeHoles(result)
	}
	return result, nil
}

// apply performs the mutation below node and returns what must stand in node's
// place: node itself, a new map or list where there was none, or a longer list.
func (m *mutation) apply(node any, way []wayStep) (any, error) {
	if len(way) == 0 {
		return m.leaf(node)
	}
	step := way[0]
	if step.element {
		list, ok := node.([]any)
		if !ok || step.index >= len(list) {
			return nil, errElementGone
		}
		if _, gone := list[step.index].(removed); gone {
			if m.kind == mutationRemove {
				return node, nil
			}
			return nil, errElementGone
		}
		if m.kind == mutationRemove && len(way) == 1 {
			list[step.index] = removed{}
			return node, nil
		}
		child, err := m.apply(list[step.index], way[1:])
		if err != nil {
			return nil, err
		}
		list[step.index] = child
		return node, nil
	}
	object, ok := node.(map[string]any)
	switch {
	case node == nil && m.kind == mutationRemove:
		return nil, nil
	case node == nil:
		object = map[string]any{}
	case !ok:
		return nil, errNotAMap
	}
	if m.kind == mutationRemove {
		if len(way) == 1 {
			delete(object, step.key)
			return object, nil
		}
		if _, there := object[step.key]; !there {
			return object, nil
		}
	}
	child, err := m.apply(object[step.key], way[1:])
	if err != nil {
		return nil, err
	}
	object[step.key] = child
	return object, nil
}

func (m *mutation) leaf(node any) (any, error) {
	switch m.kind {
	case mutationSet:
		return m.value, nil
	case mutationAppend:
		list, ok := node.([]any)
		if node != nil && !ok {
			return nil, errNotAList
		}
		return append(list, m.value), nil
	}
	return node, nil
}

// closeHoles takes the removed elements out of every list below node.
func closeHoles(node any) any {
	switch node := node.(type) {
	case map[string]any:
		for k, v := range node {
			node[k] = closeHoles(v)
		}
	case []any:
		node = slices.DeleteFunc(node, func(e any) bool { _, gone := e.(removed); return gone })
		for i, v := range node {
			node[i] = closeHoles(v)
		}
		return node
	}
	return node
}

// copyJSON copies maps and lists all the way down; scalars are shared.
func copyJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return nil
		}
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = copyJSON(e)
		}
		return m
	case []any:
		if v == nil {
			return []any(nil)
		}
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = copyJSON(e)
		}
		return l
	}
	return v
}
