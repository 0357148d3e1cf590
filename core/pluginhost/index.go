package pluginhost

import (
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// index finds the rules a request matches by operation and resource. It is
// built once and then only read.
type index struct {
	exact    map[groupResource][]*indexed // rules that name group and resource
	wildcard []*indexed                   // rules with "*" for either
}

type groupResource struct{ group, resource string }

// operations is a set of operations.
type operations uint8

func operationBit(op hostabi.Operation) operations {
	switch op {
	case hostabi.OperationCreate:
		return 1
	case hostabi.OperationUpdate:
		return 2
	case hostabi.OperationDelete:
		return 4
	case hostabi.OperationConnect:
		return 8
	}
	return 0
}

// indexed is one resource pattern of one rule of one plugin.
type indexed struct {
	plugin      int // position among the admission plugins
	rule        int // bit in the rules mask
	operations  operations
	group       string // "*" = any
	resource    string // "*" = any
	subresource string // "" = the resource itself, "*" = any
	anySub      bool   // with or without a subresource ("*/*")
	versions    []string
}

func (e *indexed) matches(op operations, group, version, resource, subresource string) bool {
	if e.operations&op == 0 {
		return false
	}
	if e.resource != "*" && e.resource != resource || e.group != "*" && e.group != group {
		return false
	}
	switch {
	case e.anySub:
	case e.subresource == "*":
		if subresource == "" {
			return false
		}
	case e.subresource != subresource:
		return false
	}
	for _, v := range e.versions {
		if v == version || v == "*" {
			return true
		}
	}
	return false
}

// add enters every rule of a plugin.
func (ix *index) add(plugin int, rules []hostabi.MatchRule) {
	if ix.exact == nil {
		ix.exact = map[groupResource][]*indexed{}
	}
	for n, r := range rules {
		var ops operations
		for _, op := range r.Operations {
			if op == "*" {
				ops = ^operations(0)
			}
			ops |= operationBit(op)
		}
		for _, pattern := range r.Resources {
			resource, sub, hasSub := strings.Cut(pattern, "/")
			for _, group := range r.APIGroups {
				e := &indexed{plugin: plugin, rule: n, operations: ops, group: group, resource: resource,
					subresource: sub, anySub: hasSub && resource == "*" && sub == "*", versions: r.APIVersions}
				if group == "*" || resource == "*" {
					ix.wildcard = append(ix.wildcard, e)
					continue
				}
				key := groupResource{group, resource}
				ix.exact[key] = append(ix.exact[key], e)
			}
		}
	}
}

// handles reports whether any rule matches. It is asked for every request of
// the API server and allocates nothing.
func (ix *index) handles(op hostabi.Operation, group, version, resource, subresource string) bool {
	bit := operationBit(op)
	for _, e := range ix.exact[groupResource{group, resource}] {
		if e.matches(bit, group, version, resource, subresource) {
			return true
		}
	}
	for _, e := range ix.wildcard {
		if e.matches(bit, group, version, resource, subresource) {
			return true
		}
	}
	return false
}

// match sets in masks, one for each plugin, the bits of the rules that match,
// and reports whether there is any.
func (ix *index) match(masks []uint64, op hostabi.Operation, group, version, resource, subresource string) bool {
	bit := operationBit(op)
	found := false
	for _, list := range [2][]*indexed{ix.exact[groupResource{group, resource}], ix.wildcard} {
		for _, e := range list {
			if e.matches(bit, group, version, resource, subresource) {
				masks[e.plugin] |= 1 << e.rule
				found = true
			}
		}
	}
	return found
}
