//go:build !wasip1

package plugintest

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// fakeHost is the host of one call into the guest.
type fakeHost struct {
	plugin   *Plugin
	starting bool // in cleat_init
	// clusterless says that the hook runs where there is no cluster yet.
	clusterless bool
	input       []byte
	output      []byte
	errorText   string

	request           *Request // nil outside admission
	object, oldObject any
	mutating          bool
	verdict           Verdict

	deploy   *hostabi.DeployRequest // nil outside deployer
	rendered rendered
	random   io.Reader
	state    map[string][]byte // set by the running hook
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

func (h *fakeHost) Now() int64 {
	if h.plugin.Now.IsZero() {
		return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	return h.plugin.Now.UnixNano()
}

func (h *fakeHost) Random(buf []byte) int32 {
	if len(buf) > hostabi.MaxRandomBytes {
		return int32(hostabi.E2BIG)
	}
	if h.random == nil {
		if h.random = h.plugin.Random; h.random == nil {
			h.random = rand.NewChaCha8([32]byte{})
		}
	}
	if _, err := io.ReadFull(h.random, buf); err != nil {
		h.errorText = err.Error()
		return int32(hostabi.EIO)
	}
	return int32(len(buf))
}

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
	return fillValue(buf, valueAt(h.object, path))
}

// fillValue copies the encoding of v into buf.
func fillValue(buf []byte, v any) int32 {
	encoded, err := hostabi.AppendValue(nil, v)
	if errors.Is(err, hostabi.ErrValueSize) {
		return int32(hostabi.E2BIG)
	}
	if err != nil {
		return int32(hostabi.EIO)
	}
	return fill(buf, encoded)
}

// valueAt is what a path names in an object: one value, or a list when the path
// has [*].
func valueAt(object any, path hostabi.FieldPath) any {
	values := valuesAt(object, path.Segments())
	if path.Wildcards() == 0 {
		return values[0]
	}
	return values
}

// valuesAt returns every value the steps name below node, nil for an absent
// one; without [*] that is exactly one.
func valuesAt(node any, steps []hostabi.PathSegment) []any {
	if len(steps) == 0 {
		return []any{node}
	}
	if !steps[0].Each {
		m, _ := node.(map[string]any)
		return valuesAt(m[steps[0].Key], steps[1:])
	}
	values := []any{}
	list, _ := node.([]any)
	for _, e := range list {
		values = append(values, valuesAt(e, steps[1:])...)
	}
	return values
}

func (h *fakeHost) ObjectSet(given, pathID, index int32, text string) int32 {
	return h.mutate(opSet, given, pathID, index, text)
}

func (h *fakeHost) ObjectRemove(given, pathID, index int32) int32 {
	return h.mutate(opRemove, given, pathID, index, "")
}

func (h *fakeHost) ObjectAppend(given, pathID, index int32, text string) int32 {
	return h.mutate(opAppend, given, pathID, index, text)
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
	case op == opAppend && path.Segments()[len(path.Segments())-1].Each:
		return int32(hostabi.EINVAL)
	case len(h.verdict.Mutations) == hostabi.MaxMutations:
		return int32(hostabi.E2BIG)
	}
	m := Mutation{Op: op, Path: path.String(), Index: int(index)}
	if _, found := locate(h.object, path.Segments(), int(index)); !found {
		return int32(hostabi.ENOENT)
	}
	if op != opRemove {
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
