//go:build !wasip1

package plugintest

import (
	"strconv"

	"github.com/cleat-dev/cleat/hostabi"
)

func (h *fakeHost) RequestGet(given, field int32, buf []byte) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	r := h.request
	values := []string{string(r.Operation), r.Group, r.Version, r.Kind, r.Resource, r.Subresource,
		r.Namespace, r.Name, r.User, strconv.FormatBool(r.DryRun), r.ID, r.UserUID}
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

func (h *fakeHost) UserGroupsGet(given int32, buf []byte) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	return fillStrings(buf, h.request.UserGroups)
}

func (h *fakeHost) UserExtraGet(given int32, key string, buf []byte) int32 {
	if n := h.inRequest(given); n < 0 {
		return n
	}
	values, ok := h.request.UserExtra[key]
	if !ok {
		return int32(hostabi.ENOENT)
	}
	return fillStrings(buf, values)
}

func fillStrings(buf []byte, texts []string) int32 {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return fillValue(buf, list)
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
