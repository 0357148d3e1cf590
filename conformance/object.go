package conformance

import (
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// leaf makes the value at a read path; absent for none.
type leaf func(hostabi.FieldPath) any

// absentValue says that nothing stands at a path.
type absentValue struct{}

// object makes an object that has a value at every path, and lists of size
// elements where a path has [*]. Below the first [*] of a path lists have one
// element, or a thousand would soon be a million.
func object(r Request, paths []hostabi.FieldPath, size int, value leaf) map[string]any {
	apiVersion := r.Version
	if r.Group != "" {
		apiVersion = r.Group + "/" + r.Version
	}
	metadata := map[string]any{"name": r.Name}
	if r.Namespace != "" {
		metadata["namespace"] = r.Namespace
	}
	var root any = map[string]any{"apiVersion": apiVersion, "kind": r.Kind, "metadata": metadata}
	// The longest first: what stands at a path above is then there already.
	sorted := slices.Clone(paths)
	slices.SortStableFunc(sorted, func(a, b hostabi.FieldPath) int { return len(b.Segments()) - len(a.Segments()) })
	for _, p := range sorted {
		if v := value(p); v != (any)(absentValue{}) {
			root = put(root, p.Segments(), size, v)
		}
	}
	m, _ := root.(map[string]any)
	return m
}

// put returns node with v at the end of the steps, unless something is there.
func put(node any, steps []hostabi.PathSegment, size int, v any) any {
	if len(steps) == 0 {
		if node == nil {
			return v
		}
		return node
	}
	if steps[0].Each {
		list, ok := node.([]any)
		if !ok && node != nil {
			return node
		}
		if list == nil {
			list = make([]any, size)
		}
		for i := range list {
			list[i] = put(list[i], steps[1:], 1, v)
		}
		return list
	}
	m, ok := node.(map[string]any)
	if !ok && node != nil {
		return node
	}
	if m == nil {
		m = map[string]any{}
	}
	child, there := m[steps[0].Key]
	if there && child == nil {
		return m // null was put there
	}
	m[steps[0].Key] = put(child, steps[1:], size, v)
	return m
}

// shape is the JSON type a field has in objects of Kubernetes.
type shape string

const (
	shapeText shape = "text"
	shapeMap  shape = "map"
	shapeList shape = "list"
	shapeBool shape = "bool"
	shapeInt  shape = "integer"
)

// shapeOf guesses from the name of the field; most are texts.
func shapeOf(p hostabi.FieldPath) shape {
	last := p.Segments()[len(p.Segments())-1]
	if last.Each {
		return shapeMap
	}
	names := map[shape]string{
		shapeMap:  " annotations data labels limits matchLabels metadata nodeSelector requests resources securityContext selector spec stringData template ",
		shapeList: " args command containers env envFrom ephemeralContainers finalizers imagePullSecrets initContainers ports rules subjects tolerations volumeMounts volumes ",
		shapeBool: " allowPrivilegeEscalation automountServiceAccountToken enabled hostIPC hostNetwork hostPID immutable privileged readOnly readOnlyRootFilesystem runAsNonRoot suspend ",
		shapeInt:  " containerPort hostPort port priority replicas runAsGroup runAsUser terminationGracePeriodSeconds ",
	}
	for s, list := range names {
		if strings.Contains(list, " "+last.Key+" ") {
			return s
		}
	}
	return shapeText
}

// usual is a value a cluster could have at a path.
func usual(p hostabi.FieldPath) any { return textual("registry.local/app:1.0")(p) }

// textual is usual with that text wherever a text can stand.
func textual(text string) leaf {
	return func(p hostabi.FieldPath) any {
		switch shapeOf(p) {
		case shapeMap:
			return map[string]any{"app": text}
		case shapeList:
			return []any{text}
		case shapeBool:
			return true
		case shapeInt:
			return int64(1)
		}
		return text
	}
}

// instead is usual everywhere but at one path.
func instead(at hostabi.FieldPath, v any) leaf {
	return func(p hostabi.FieldPath) any {
		switch {
		case p.String() == at.String():
			return v
		case at.Covers(p):
			return absentValue{} // would stand below v
		}
		return usual(p)
	}
}

// readPaths are the fields the plugin may see.
func (s *subject) readPaths() ([]hostabi.FieldPath, error) {
	return parsePaths(s.manifest.Admission.ReadPaths)
}

func (s *subject) writePaths() ([]hostabi.FieldPath, error) {
	return parsePaths(s.manifest.Admission.WritePaths)
}

func parsePaths(texts []string) ([]hostabi.FieldPath, error) {
	paths := make([]hostabi.FieldPath, 0, len(texts))
	for _, text := range texts {
		p, err := hostabi.ParseFieldPath(text)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}
