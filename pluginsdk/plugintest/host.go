//go:build !wasip1

package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// fakeHost is the host of one call into the guest.
type fakeHost struct {
	plugin    *Plugin
	starting  bool // in cleat_init
	input     []byte
	output    []byte
	errorText string

	request           *Request // nil outside admission
	object, oldObject any
	mutating          bool
	verdict           Verdict
}

func (h *fakeHost) allows(module string) bool {
	return slices.Contains(h.plugin.Manifest.Capabilities, module)
}

// fill copies data into buf as the ABI says.
func fill[B ~[]byte | ~string](buf []byte, data B) int32 {
	if len(data) <= len(buf) {
		copy(buf, data)
	}
	return int32(len(data))
}

func cut(text string, most int) string { return strings.ToValidUTF8(text[:min(len(text), most)], "") }

func (h *fakeHost) Log(level int32, text string) int32 {
	h.plugin.Logs = append(h.plugin.Logs, cut(text, hostabi.MaxLogBytes))
	return 0
}

func (h *fakeHost) InputGet(buf []byte) int32 {
	if h.input == nil {
		return int32(hostabi.ENOTSUP)
	}
	return fill(buf, h.input)
}

func (h *fakeHost) OutputSet(text string) int32 {
	if h.input == nil {
		return int32(hostabi.ENOTSUP)
	}
	if len(text) > hostabi.MaxMessageBytes {
		return int32(hostabi.E2BIG)
	}
	canonical, err := hostabi.Canonical([]byte(text))
	if err != nil {
		return int32(hostabi.EINVAL)
	}
	h.output = canonical
	return 0
}

func (h *fakeHost) ErrorSet(text string) int32 {
	h.errorText = cut(text, hostabi.MaxTextBytes)
	return 0
}

func (h *fakeHost) ConfigGet(buf []byte) int32 { return fill(buf, h.plugin.config) }

func (h *fakeHost) PathRegister(text string) int32 {
	p := h.plugin
	if !h.allows(hostabi.ModuleObject) {
		return int32(hostabi.EACCES)
	}
	if !h.starting {
		return int32(hostabi.ENOTSUP)
	}
	path, err := hostabi.ParseFieldPath(text)
	if err != nil {
		return int32(hostabi.EINVAL)
	}
	if !covered(p.readPaths, path) && !covered(p.writePaths, path) {
		return int32(hostabi.EACCES)
	}
	for id, known := range p.paths {
		if known.String() == path.String() {
			return int32(id)
		}
	}
	if len(p.paths) == hostabi.MaxPaths {
		return int32(hostabi.E2BIG)
	}
	p.paths = append(p.paths, path)
	return int32(len(p.paths) - 1)
}

func covered(granted []hostabi.FieldPath, path hostabi.FieldPath) bool {
	return slices.ContainsFunc(granted, func(g hostabi.FieldPath) bool { return g.Covers(path) })
}

// path checks handle and path id.
func (h *fakeHost) path(given, id int32) (hostabi.FieldPath, int32) {
	switch {
	case h.request == nil || given != handle:
		return hostabi.FieldPath{}, int32(hostabi.EBADF)
	case id < 0 || int(id) >= len(h.plugin.paths):
		return hostabi.FieldPath{}, int32(hostabi.EINVAL)
	}
	return h.plugin.paths[id], 0
}

func (h *fakeHost) ObjectGet(given, pathID int32, buf []byte) int32 {
	path, n := h.path(given, pathID)
	if n < 0 {
		return n
	}
	if !covered(h.plugin.readPaths, path) {
		return int32(hostabi.EACCES)
	}
	value := lookup(h.object, path.Segments())
	var v any = value
	if path.Wildcards() == 0 {
		v = value[0]
	}
	encoded, err := hostabi.AppendValue(nil, v)
	if errors.Is(err, hostabi.ErrValueSize) {
		return int32(hostabi.E2BIG)
	}
	if err != nil {
		return int32(hostabi.EIO)
	}
	return fill(buf, encoded)
}

// lookup returns every value the steps name below node, nil for an absent one;
// without [*] that is exactly one.
func lookup(node any, steps []hostabi.PathSegment) []any {
	if len(steps) == 0 {
		return []any{node}
	}
	if !steps[0].Each {
		m, _ := node.(map[string]any)
		return lookup(m[steps[0].Key], steps[1:])
	}
	values := []any{}
	list, _ := node.([]any)
	for _, e := range list {
		values = append(values, lookup(e, steps[1:])...)
	}
	return values
}

func (h *fakeHost) ObjectSet(given, pathID, index int32, text string) int32 {
	return h.mutate("set", given, pathID, index, text)
}

func (h *fakeHost) ObjectRemove(given, pathID, index int32) int32 {
	return h.mutate("remove", given, pathID, index, "")
}

func (h *fakeHost) ObjectAppend(given, pathID, index int32, text string) int32 {
	return h.mutate("append", given, pathID, index, text)
}

func (h *fakeHost) mutate(op string, given, id, index int32, encoded string) int32 {
	path, n := h.path(given, id)
	switch {
	case n < 0:
		return n
	case !h.mutating:
		return int32(hostabi.ENOTSUP)
	case !covered(h.plugin.writePaths, path):
		return int32(hostabi.EACCES)
	case (index == -1) != (path.Wildcards() == 0) || index < -1:
		return int32(hostabi.EINVAL)
	case index >= 0 && int(index) >= len(lookup(h.object, path.Segments())):
		return int32(hostabi.ENOENT)
	case len(h.verdict.Mutations) == hostabi.MaxMutations:
		return int32(hostabi.E2BIG)
	}
	m := Mutation{Op: op, Path: path.String(), Index: int(index)}
	if op != "remove" {
		v, err := hostabi.DecodeValue([]byte(encoded))
		if err != nil {
			return int32(hostabi.EINVAL)
		}
		m.Value = v
	}
	h.verdict.Mutations = append(h.verdict.Mutations, m)
	return 0
}

func (h *fakeHost) ObjectJSON(given, which int32, buf []byte) int32 {
	if !h.allows(hostabi.ModuleObjectJSON) {
		return int32(hostabi.EACCES)
	}
	if h.request == nil || given != handle {
		return int32(hostabi.EBADF)
	}
	object := h.object
	switch which {
	case hostabi.ObjectNew:
	case hostabi.ObjectOld:
		object = h.oldObject
	default:
		return int32(hostabi.EINVAL)
	}
	text, err := hostabi.AppendJSON(nil, object)
	if err != nil {
		return int32(hostabi.EIO)
	}
	return fill(buf, text)
}

func (h *fakeHost) RequestGet(given, field int32, buf []byte) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	r := h.request
	values := []string{string(r.Operation), r.Group, r.Version, r.Kind, r.Resource, r.Subresource,
		r.Namespace, r.Name, r.User, strconv.FormatBool(r.DryRun), r.ID}
	if field < 0 || int(field) >= len(values) {
		return int32(hostabi.EINVAL)
	}
	return fill(buf, values[field])
}

func (h *fakeHost) inRequest(given int32) int32 {
	switch {
	case !h.allows(hostabi.ModuleRequest):
		return int32(hostabi.EACCES)
	case h.request == nil || given != handle:
		return int32(hostabi.EBADF)
	}
	return 0
}

func (h *fakeHost) NamespaceLabelGet(given int32, key string, buf []byte) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	value, ok := h.request.NamespaceLabels[key]
	if !ok {
		return int32(hostabi.ENOENT)
	}
	return fill(buf, value)
}

func (h *fakeHost) Deny(given int32, text string, code int32) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	if code != 0 && (code < 400 || code > 599) {
		return int32(hostabi.EINVAL)
	}
	h.verdict.Message, h.verdict.Code = cut(text, hostabi.MaxTextBytes), code
	return 0
}

func (h *fakeHost) Warn(given int32, text string) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	if len(h.verdict.Warnings) == hostabi.MaxWarnings {
		return int32(hostabi.E2BIG)
	}
	h.verdict.Warnings = append(h.verdict.Warnings, cut(text, hostabi.MaxTextBytes))
	return 0
}

func (h *fakeHost) Audit(given int32, key, value string) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	if h.verdict.Annotations == nil {
		h.verdict.Annotations = map[string]string{}
	}
	if _, again := h.verdict.Annotations[key]; !again && len(h.verdict.Annotations) == hostabi.MaxWarnings {
		return int32(hostabi.E2BIG)
	}
	h.verdict.Annotations[key] = cut(value, hostabi.MaxTextBytes)
	return 0
}

func (h *fakeHost) RenderYAML(text string, buf []byte) int32 {
	if !h.allows(hostabi.ModuleRender) {
		return int32(hostabi.EACCES)
	}
	render := h.plugin.RenderYAML
	if render == nil {
		render = jsonDocuments
	}
	documents, err := render(text)
	if err != nil {
		h.errorText = err.Error()
		return int32(hostabi.EINVAL)
	}
	array, err := hostabi.AppendJSON(nil, documents)
	if err != nil {
		return int32(hostabi.EIO)
	}
	return fill(buf, array)
}

// jsonDocuments reads JSON documents divided by lines of three dashes; one
// without text is null.
func jsonDocuments(text string) ([]any, error) {
	documents := []any{}
	for part := range strings.SplitSeq("\n"+text, "\n---") {
		d := json.NewDecoder(bytes.NewReader([]byte(part)))
		for first := true; ; first = false {
			var raw json.RawMessage
			err := d.Decode(&raw)
			if errors.Is(err, io.EOF) {
				if first {
					documents = append(documents, nil)
				}
				break
			}
			if err != nil {
				return nil, err
			}
			v, err := hostabi.ParseJSON(raw)
			if err != nil {
				return nil, err
			}
			documents = append(documents, v)
		}
	}
	return documents, nil
}
