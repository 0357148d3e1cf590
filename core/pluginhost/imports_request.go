package pluginhost

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

func requestFunctions() map[string]hostFunc {
	return map[string]hostFunc{
		"request_get":         requestGet,
		"namespace_label_get": requestNamespaceLabel,
		"user_groups_get":     requestUserGroups,
		"user_extra_get":      requestUserExtra,
		"deny":                requestDeny,
		"warn":                requestWarn,
		"audit":               requestAudit,
	}
}

func requestGet(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	r := c.request
	var text string
	switch hostabi.RequestField(int32(uint32(stack[1]))) {
	case hostabi.RequestOperation:
		text = string(r.Operation)
	case hostabi.RequestGroup:
		text = r.Group
	case hostabi.RequestVersion:
		text = r.Version
	case hostabi.RequestKind:
		text = r.Kind
	case hostabi.RequestResource:
		text = r.Resource
	case hostabi.RequestSubresource:
		text = r.Subresource
	case hostabi.RequestNamespace:
		text = r.Namespace
	case hostabi.RequestName:
		text = r.Name
	case hostabi.RequestUser:
		text = r.UserName
	case hostabi.RequestDryRun:
		text = strconv.FormatBool(r.DryRun)
	case hostabi.RequestID:
		text = r.ID
	case hostabi.RequestUserUID:
		text = r.UserUID
	default:
		fail(stack, hostabi.EINVAL)
		return
	}
	in.fillText(stack, uint32(stack[2]), uint32(stack[3]), text)
}

// fillText is fill for a string, without copying it first.
func (in *instance) fillText(stack []uint64, buf, limit uint32, text string) {
	if len(text) <= int(limit) && !in.mem.WriteString(buf, text) {
		fail(stack, hostabi.EINVAL)
		return
	}
	in.call.bytes += uint64(len(text))
	stack[0] = uint64(uint32(len(text)))
}

func requestNamespaceLabel(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	key, ok := in.mem.Read(uint32(stack[1]), uint32(stack[2]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	labels, err := c.request.namespaceLabels()
	if err != nil {
		c.errText = err.Error()
		fail(stack, hostabi.EIO)
		return
	}
	value, ok := labels[string(key)]
	if !ok {
		fail(stack, hostabi.ENOENT)
		return
	}
	in.fillText(stack, uint32(stack[3]), uint32(stack[4]), value)
}

func requestUserGroups(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	in.fillStrings(stack, uint32(stack[1]), uint32(stack[2]), c.request.UserGroups)
}

func requestUserExtra(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	key, ok := in.mem.Read(uint32(stack[1]), uint32(stack[2]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	values, ok := c.request.UserExtra[string(key)]
	if ok && c.seen != nil {
		c.seen.Redacted = true // a capture leaves it out
	}
	if !ok {
		fail(stack, hostabi.ENOENT)
		return
	}
	in.fillStrings(stack, uint32(stack[3]), uint32(stack[4]), values)
}

// fillStrings answers with an encoded list of strings.
func (in *instance) fillStrings(stack []uint64, buf, limit uint32, texts []string) {
	value := wire.AppendList(in.scratch[:0], uint32(len(texts)))
	for _, text := range texts {
		value = wire.AppendString(value, text)
	}
	if len(value) > hostabi.MaxValueBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	in.scratch = value
	in.fill(stack, buf, limit, value)
}

// Bounds of the status code of a denial.
const (
	codeForbidden = 403
	codeMin       = 400
	codeMax       = 599
)

func requestDeny(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	text, ok := in.text(stack[1], stack[2], hostabi.MaxTextBytes)
	code := int32(uint32(stack[3]))
	if code == 0 {
		code = codeForbidden
	}
	if !ok || code < codeMin || code > codeMax {
		fail(stack, hostabi.EINVAL)
		return
	}
	c.denial = denial{message: oneLine(text), code: code}
	stack[0] = 0
}

func requestWarn(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	text, ok := in.text(stack[1], stack[2], hostabi.MaxTextBytes)
	switch {
	case !ok || strings.TrimSpace(text) == "":
		fail(stack, hostabi.EINVAL)
		return
	case len(c.warnings) == hostabi.MaxWarnings:
		fail(stack, hostabi.E2BIG)
		return
	}
	c.warnings = append(c.warnings, oneLine(text))
	stack[0] = 0
}

// oneLine takes out of text what would let it pose as more than one line of plain
// text, in an HTTP header or on a terminal: control characters, line separators
// and those that turn the direction of writing.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if disruptive(r) {
			return ' '
		}
		return r
	}, text))
}

func disruptive(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

func requestAudit(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	key, okKey := in.text(stack[1], stack[2], maxAuditKey+1)
	value, okValue := in.text(stack[3], stack[4], hostabi.MaxTextBytes)
	switch {
	case !okKey || !okValue || !isWord(key, "-_.", 1, maxAuditKey):
		fail(stack, hostabi.EINVAL)
		return
	case len(c.audit) == hostabi.MaxWarnings:
		fail(stack, hostabi.E2BIG)
		return
	}
	c.audit = append(c.audit, annotation{key, value})
	stack[0] = 0
}

const maxAuditKey = 63
