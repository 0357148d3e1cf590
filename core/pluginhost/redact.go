package pluginhost

import "github.com/cleat-dev/cleat/hostabi"

// redacted stands where a capture leaves a secret out.
const redacted = "REDACTED"

// prune returns a copy of object with nothing but what the paths cover. Lists
// keep their length, so that positions mean what they meant.
func prune(object map[string]any, paths []hostabi.FieldPath) map[string]any {
	var kept any
	for _, p := range paths {
		kept = keepPath(kept, object, p.Segments())
	}
	m, _ := kept.(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	return m
}

func keepPath(kept, from any, steps []hostabi.PathSegment) any {
	if len(steps) == 0 {
		return copyJSON(from)
	}
	if steps[0].Each {
		list, ok := from.([]any)
		if !ok {
			return kept
		}
		out, _ := kept.([]any)
		if len(out) < len(list) {
			out = append(out, make([]any, len(list)-len(out))...)
		}
		for i := range list {
			out[i] = keepPath(out[i], list[i], steps[1:])
		}
		return out
	}
	m, ok := from.(map[string]any)
	if !ok {
		return kept
	}
	value, ok := m[steps[0].Key]
	if !ok {
		return kept
	}
	out, _ := kept.(map[string]any)
	if out == nil {
		out = map[string]any{}
	}
	out[steps[0].Key] = keepPath(out[steps[0].Key], value, steps[1:])
	return out
}

// redactObject takes secrets out of an object in place and reports whether it
// found any.
func redactObject(object map[string]any, secret bool) bool {
	found := false
	if secret || object["kind"] == "Secret" {
		for _, field := range []string{"data", "stringData"} {
			if data, ok := object[field].(map[string]any); ok {
				for key := range data {
					data[key], found = redacted, true
				}
			}
		}
	}
	return redactBelow(object) || found
}

// lastApplied repeats the whole object, secrets included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// redactBelow takes out the values of environment variables and kubectl's copy
// of the object, wherever they stand.
func redactBelow(node any) bool {
	found := false
	switch node := node.(type) {
	case map[string]any:
		if _, ok := node[lastApplied]; ok {
			node[lastApplied], found = redacted, true
		}
		if list, ok := node["env"].([]any); ok {
			for _, e := range list {
				if v, ok := e.(map[string]any); ok && v["value"] != nil {
					v["value"], found = redacted, true
				}
			}
		}
		for _, v := range node {
			found = redactBelow(v) || found
		}
	case []any:
		for _, v := range node {
			found = redactBelow(v) || found
		}
	}
	return found
}
